//! Makes the texts in one frame UTF-8, in place: `basic.deliver` and the like, and the properties of a message.

/// Replaces each byte that is not UTF-8: ASCII's own character for that (SUB). A publisher has no reason to send it, so a text
/// that contains it was repaired.
pub const SUBSTITUTE: u8 = 0x1a;

/// Tables and lists in headers may be nested so deep. lapin and we walk through them by recursion, and a publisher could
/// end the process with a few thousand levels; RabbitMQ sets no limit.
const MAX_DEPTH: usize = 16;

/// The kinds of a method's arguments.
enum Part {
    Text,
    /// Numbers, so many bytes.
    Skip(usize),
}

use Part::{Skip, Text};

/// Repairs the payload of a header frame, or of a method frame. What is not built as AMQP says stays as it is: lapin
/// has a word for it.
pub fn repair(is_header: bool, payload: &mut [u8]) {
    let mut reading = Reading { bytes: payload, at: 0 };
    // `None` is the end of what could be read, and nothing else follows from it.
    let _read = if is_header { reading.properties() } else { reading.method() };
}

/// The methods of the broker that repeat what others wrote.
fn parts_of(class: u16, method: u16) -> &'static [Part] {
    match (class, method) {
        // connection.close and channel.close: the broker cuts its text after 255 bytes, in a character or not.
        (10, 50) | (20, 40) => &[Skip(2), Text],
        // basic.return: why, exchange, routing key.
        (60, 50) => &[Skip(2), Text, Text, Text],
        // basic.deliver: consumer tag, delivery tag and redelivered, exchange, routing key.
        (60, 60) => &[Text, Skip(9), Text, Text],
        // basic.get-ok: delivery tag and redelivered, exchange, routing key.
        (60, 71) => &[Skip(9), Text, Text],
        _ => &[],
    }
}

struct Reading<'a> {
    bytes: &'a mut [u8],
    at: usize,
}

impl Reading<'_> {
    fn method(&mut self) -> Option<()> {
        let (class, method) = (self.number()?, self.number()?);
        for part in parts_of(class, method) {
            match part {
                Text => self.text()?,
                Skip(bytes) => self.skip(*bytes)?,
            }
        }
        Some(())
    }

    /// Class, weight and size of the body; then which properties there are, and these, in AMQP's order.
    fn properties(&mut self) -> Option<()> {
        const HEADERS: u16 = 1 << 13;
        const DELIVERY_MODE: u16 = 1 << 12;
        const PRIORITY: u16 = 1 << 11;
        const TIMESTAMP: u16 = 1 << 6;
        self.skip(2 + 2 + 8)?;
        let flags: u16 = self.number()?;
        for flag in (2..16).rev().map(|bit| 1 << bit).filter(|flag| flags & flag != 0) {
            match flag {
                HEADERS => self.table(0)?,
                DELIVERY_MODE | PRIORITY => self.skip(1)?,
                TIMESTAMP => self.skip(8)?,
                _ => self.text()?,
            }
        }
        Some(())
    }

    fn table(&mut self, depth: usize) -> Option<()> {
        let end = self.end_of_long()?;
        while self.at < end {
            self.text()?;
            self.value(depth)?;
        }
        Some(())
    }

    fn list(&mut self, depth: usize) -> Option<()> {
        let end = self.end_of_long()?;
        while self.at < end {
            self.value(depth)?;
        }
        Some(())
    }

    /// One value with its type, as RabbitMQ spells types. Long strings need not be UTF-8.
    fn value(&mut self, depth: usize) -> Option<()> {
        let at = self.at;
        match self.take(1)?[0] {
            b'V' => Some(()),
            b't' | b'b' | b'B' => self.skip(1),
            b's' | b'U' | b'u' => self.skip(2),
            b'I' | b'i' | b'f' => self.skip(4),
            b'D' => self.skip(5),
            b'L' | b'l' | b'd' | b'T' => self.skip(8),
            b'S' | b'x' => self.skip_long(),
            b'A' | b'F' if depth == MAX_DEPTH => {
                // Built alike, length and content, but nobody looks into it.
                self.bytes[at] = b'x';
                self.skip_long()
            }
            b'A' => self.list(depth + 1),
            b'F' => self.table(depth + 1),
            _ => None,
        }
    }

    /// A short string: its length in one byte, and the text.
    fn text(&mut self) -> Option<()> {
        let length = usize::from(self.take(1)?[0]);
        substitute(self.take(length)?);
        Some(())
    }

    fn skip_long(&mut self) -> Option<()> {
        self.at = self.end_of_long()?;
        Some(())
    }

    /// The end of a value whose length is stored here in four bytes.
    fn end_of_long(&mut self) -> Option<usize> {
        let length = self.take(4)?.first_chunk().map(|bytes| u32::from_be_bytes(*bytes))?;
        let end = self.at.checked_add(usize::try_from(length).ok()?)?;
        (end <= self.bytes.len()).then_some(end)
    }

    fn number(&mut self) -> Option<u16> {
        self.take(2)?.first_chunk().map(|bytes| u16::from_be_bytes(*bytes))
    }

    fn skip(&mut self, bytes: usize) -> Option<()> {
        self.take(bytes).map(drop)
    }

    fn take(&mut self, bytes: usize) -> Option<&mut [u8]> {
        let taken = self.bytes.get_mut(self.at..self.at.checked_add(bytes)?)?;
        self.at += bytes;
        Some(taken)
    }
}

fn substitute(text: &mut [u8]) {
    let mut at = 0;
    while let Err(error) = std::str::from_utf8(&text[at..]) {
        let bad = at + error.valid_up_to();
        let end = error.error_len().map_or(text.len(), |length| bad + length);
        text[bad..end].fill(SUBSTITUTE);
        at = end;
    }
}
