//! The daemon and its tools: parse, call [`wechat_notifier::cli`], turn the result into an exit code.

use std::process::ExitCode;

use wechat_notifier::cli::{self, Cli};

/// The pipeline makes many small allocations from several threads, which is what this allocator is made for.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[tokio::main]
async fn main() -> ExitCode {
    // A huge page counts as used as soon as one byte of it is: a third more memory here, for hardly any speed. Kernels without
    // the setting have nothing to switch off.
    let _ = rustix::thread::disable_transparent_huge_pages(true);

    // One TLS provider for every client. It fails only if one is installed already, which is fine.
    let _ = rustls::crypto::ring::default_provider().install_default();

    cli::execute(Cli::from_arguments()).await.unwrap_or_else(|error| {
        cli::tell(&error);
        cli::Exit::Failed.into()
    })
}
