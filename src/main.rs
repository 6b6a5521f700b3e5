//! The daemon and its tools: parse, call [`wechat_notifier::cli`], turn the result into an exit code.

use std::process::ExitCode;

use wechat_notifier::cli::{self, Cli};

/// The pipeline makes many small allocations from several threads, which is what this allocator is made for.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[tokio::main]
async fn main() -> ExitCode {
    // A huge page counts whole as soon as one byte of it is used: a third more memory here, for next to no speed. Where the
    // kernel does not know the setting there is nothing to switch off.
    let _ = rustix::thread::disable_transparent_huge_pages(true);

    // One TLS provider for every client. It fails only where one is installed already, which is as good.
    let _ = rustls::crypto::ring::default_provider().install_default();

    cli::execute(Cli::from_arguments()).await.unwrap_or_else(|error| {
        cli::tell(&error);
        cli::Exit::Failed.into()
    })
}
