//! The `countersign` binary: see `countersign --help`.

use std::process::ExitCode;

// Under glibc the system's allocator is the best of those tried: its memory is in the processor's
// cache when TLS asks for the next record's buffer, and it gives back what idle connections gave up.
#[cfg(target_env = "musl")]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    countersign::cli::main()
}
