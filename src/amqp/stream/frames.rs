//! Where AMQP's frames begin and end in a stream of bytes. No I/O.

use super::repair::repair;

/// Type, channel and size of the payload.
const HEAD_BYTES: usize = 7;
/// The octet behind the payload.
const END_BYTES: usize = 1;
const METHOD: u8 = 1;
const HEADER: u8 = 2;
const BODY: u8 = 3;
const HEARTBEAT: u8 = 8;

/// A larger frame passes as it is. `frame_max` is 128 KiB, so none is; the bound keeps a size that is nonsense from
/// becoming memory.
const MAX_HELD_BYTES: usize = 1024 * 1024;

/// Follows the frames. Those with texts in them are repaired as soon as they are whole; until then they are held back.
#[derive(Default)]
pub(super) struct Frames {
    /// So many bytes are the rest of a frame that nobody looks at.
    passing: usize,
    /// The frame that was cut by the end of a read, as far as it is here.
    held: Vec<u8>,
    /// What of `held` is filled; the rest is room for what is missing.
    filled: usize,
    /// What of `held` has gone out; it begins to when nothing is missing any more.
    given: usize,
    is_whole: bool,
}

impl Frames {
    /// Looks through bytes just read. So many of them may go on; the rest is held.
    pub fn sift(&mut self, chunk: &mut [u8]) -> usize {
        let mut at = 0;
        while at < chunk.len() {
            let rest = &mut chunk[at..];
            if self.passing > 0 {
                let passed = self.passing.min(rest.len());
                self.passing -= passed;
                at += passed;
                continue;
            }
            match Head::of(rest) {
                Some(head) if !head.is_looked_at() => self.passing = head.frame_bytes,
                Some(head) if head.frame_bytes <= rest.len() => {
                    head.repair(&mut rest[..head.frame_bytes]);
                    at += head.frame_bytes;
                }
                _ => {
                    self.hold(rest);
                    break;
                }
            }
        }
        at
    }

    /// Whether the next bytes belong to a frame that is held.
    pub fn is_holding(&self) -> bool {
        self.filled > 0
    }

    /// Room for what is missing of the frame that is held, if one is.
    pub fn gap(&mut self) -> Option<&mut [u8]> {
        self.is_holding().then(|| &mut self.held[self.filled..])
    }

    /// So many bytes of the gap are filled.
    pub fn fill(&mut self, bytes: usize) {
        self.filled += bytes;
        self.look();
    }

    /// Moves what can go out of the frame that is held; `None` where there is nothing.
    pub fn give(&mut self, buffer: &mut [u8]) -> Option<usize> {
        if !self.is_whole {
            return None;
        }
        let out = &self.held[self.given..self.filled];
        let moved = out.len().min(buffer.len());
        buffer[..moved].copy_from_slice(&out[..moved]);
        self.given += moved;
        if self.given == self.filled {
            self.held.clear();
            (self.filled, self.given, self.is_whole) = (0, 0, false);
        }
        Some(moved)
    }

    fn hold(&mut self, beginning: &[u8]) {
        self.held.extend_from_slice(beginning);
        self.filled = beginning.len();
        self.look();
    }

    /// Makes room for what is missing, or finds that nothing is.
    fn look(&mut self) {
        let Some(head) = Head::of(&self.held[..self.filled]) else {
            return self.held.resize(HEAD_BYTES, 0);
        };
        if !head.is_looked_at() {
            self.passing = head.frame_bytes - self.filled;
            self.is_whole = true;
        } else if self.filled == head.frame_bytes {
            head.repair(&mut self.held);
            self.is_whole = true;
        } else {
            self.held.resize(head.frame_bytes, 0);
        }
    }
}

/// The beginning of a frame.
#[derive(Clone, Copy)]
struct Head {
    kind: u8,
    frame_bytes: usize,
}

impl Head {
    /// `None` while it is not whole.
    fn of(bytes: &[u8]) -> Option<Self> {
        let [kind, _, _, size @ ..] = bytes.first_chunk::<HEAD_BYTES>()?;
        let payload = usize::try_from(u32::from_be_bytes(*size)).unwrap_or(usize::MAX);
        let is_amqp = matches!(*kind, METHOD | HEADER | BODY | HEARTBEAT);
        // A broker of another protocol says so, and hangs up: nothing to find in there.
        let frame_bytes = if is_amqp { payload.saturating_add(HEAD_BYTES + END_BYTES) } else { usize::MAX };
        Some(Self { kind: *kind, frame_bytes })
    }

    /// Bodies are bytes, not texts.
    fn is_looked_at(self) -> bool {
        matches!(self.kind, METHOD | HEADER) && self.frame_bytes <= MAX_HELD_BYTES
    }

    fn repair(self, frame: &mut [u8]) {
        let payload = &mut frame[HEAD_BYTES..self.frame_bytes - END_BYTES];
        repair(self.kind == HEADER, payload);
    }
}
