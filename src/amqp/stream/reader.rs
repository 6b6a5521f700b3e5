//! A stream that repairs what is read from it.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures_io::{AsyncRead, AsyncWrite};

use super::frames::Frames;

/// Defers what `inner` says, with the texts of AMQP's frames made UTF-8. Writes go straight through.
pub struct Repaired<S> {
    inner: S,
    frames: Frames,
}

impl<S> Repaired<S> {
    pub fn new(inner: S) -> Self {
        Self { inner, frames: Frames::default() }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Repaired<S> {
    /// Reads into the caller's own memory; only the beginning of a frame that is not here as a whole is kept back.
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let Self { inner, frames } = &mut *self;
        loop {
            if let Some(given) = frames.give(buffer) {
                return Poll::Ready(Ok(given));
            }
            let into = match frames.gap() {
                Some(gap) => gap,
                None => &mut *buffer,
            };
            let read = ready!(Pin::new(&mut *inner).poll_read(context, into))?;
            if read == 0 {
                return Poll::Ready(Ok(0));
            }
            if frames.is_holding() {
                frames.fill(read);
                continue;
            }
            let passed = frames.sift(&mut buffer[..read]);
            if passed > 0 {
                return Poll::Ready(Ok(passed));
            }
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Repaired<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write_vectored(cx, parts)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_close(cx)
    }
}
