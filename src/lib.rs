pub mod clock;
pub mod host;
pub mod ids;
pub mod inject;
pub mod secret;
