//! Streams of bytes under HTTP and TLS, which spare those above and below them work for nothing.

mod ahead;
mod bell;
mod gate;

pub use ahead::Ahead;
pub use bell::Bell;
pub use gate::Gate;
