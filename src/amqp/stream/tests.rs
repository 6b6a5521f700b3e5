use futures_util::task::noop_waker;
use proptest::prelude::*;

use std::collections::VecDeque;
use std::pin::Pin;
use std::task::{Context, Poll};

use super::*;

/// What the broker may say, with texts as publishers wrote them.
#[derive(Debug, Clone)]
enum Frame {
    Deliver {
        exchange: Vec<u8>,
        routing_key: Vec<u8>,
    },
    Return {
        reason: Vec<u8>,
        routing_key: Vec<u8>,
    },
    Header {
        message_id: Vec<u8>,
        kind: Vec<u8>,
        headers: Vec<(Vec<u8>, Value)>,
    },
    Body(Vec<u8>),
    Heartbeat,
    /// A method that repeats nothing foreign.
    Other(Vec<u8>),
}

#[derive(Debug, Clone)]
enum Value {
    Nothing,
    Number(i64),
    Long(Vec<u8>),
    List(Vec<Value>),
    Table(Vec<(Vec<u8>, Value)>),
}

impl Frame {
    /// On the wire; each short text goes through `text` before.
    fn bytes(&self, text: fn(&[u8]) -> Vec<u8>) -> Vec<u8> {
        let short = |bytes: &[u8]| [&[u8::try_from(bytes.len()).unwrap()], &*text(bytes)].concat();
        let (kind, payload) = match self {
            Self::Deliver { exchange, routing_key } => {
                let tag_and_flag = [0, 0, 0, 0, 0, 0, 0, 200, 1];
                (
                    1,
                    [
                        &[0, 60, 0, 60],
                        &*short(b"wechat#1"),
                        &tag_and_flag,
                        &short(exchange),
                        &short(routing_key),
                    ]
                    .concat(),
                )
            }
            Self::Return { reason, routing_key } => {
                (1, [&[0, 60, 0, 50, 1, 56], &*short(reason), &short(b"ex"), &short(routing_key)].concat())
            }
            Self::Header { message_id, kind, headers } => {
                let fixed = [0, 60, 0, 0, 0, 0, 0, 0, 0, 0, 0, 255];
                // Everything but the deprecated ones: content type and encoding, headers, mode, priority …
                let flags = [0b1111_1111, 0b1111_1000];
                let numbers = [2, 9];
                let timestamp = [0, 0, 0, 0, 255, 254, 253, 252];
                let parts = [
                    &fixed[..],
                    &flags,
                    &short(b"application/json"),
                    &short(b"utf-8"),
                    &table(headers, text),
                    &numbers,
                    &short(b"correlation"),
                    &short(b"reply"),
                    &short(b"60000"),
                    &short(message_id),
                    &timestamp,
                    &short(kind),
                    &short(b"guest"),
                    &short(b"shop"),
                ];
                (2, parts.concat())
            }
            Self::Body(body) => (3, body.clone()),
            Self::Heartbeat => (8, Vec::new()),
            Self::Other(content) => (1, [&[0, 50, 0, 11], &**content].concat()),
        };
        let size = u32::try_from(payload.len()).unwrap().to_be_bytes();
        [&[kind, 0, 7], &size[..], &payload, &[0xce]].concat()
    }
}

impl Value {
    fn bytes(&self, text: fn(&[u8]) -> Vec<u8>) -> Vec<u8> {
        match self {
            Self::Nothing => b"V".to_vec(),
            Self::Number(number) => [b"l", &number.to_be_bytes()[..]].concat(),
            Self::Long(content) => [b"S", &*long(content)].concat(),
            Self::List(values) => {
                let content: Vec<u8> = values.iter().flat_map(|value| value.bytes(text)).collect();
                [b"A", &*long(&content)].concat()
            }
            Self::Table(entries) => [b"F", &*table(entries, text)].concat(),
        }
    }
}

fn table(entries: &[(Vec<u8>, Value)], text: fn(&[u8]) -> Vec<u8>) -> Vec<u8> {
    let entry = |(name, value): &(Vec<u8>, Value)| {
        [&[u8::try_from(name.len()).unwrap()], &*text(name), &value.bytes(text)].concat()
    };
    long(&entries.iter().flat_map(entry).collect::<Vec<u8>>())
}

fn long(content: &[u8]) -> Vec<u8> {
    [&u32::try_from(content.len()).unwrap().to_be_bytes()[..], content].concat()
}

fn as_written(text: &[u8]) -> Vec<u8> {
    text.to_vec()
}

/// The standard library's own idea of what is wrong, byte by byte.
fn as_utf8(text: &[u8]) -> Vec<u8> {
    let part = |chunk: std::str::Utf8Chunk<'_>| {
        [chunk.valid().as_bytes(), &vec![SUBSTITUTE; chunk.invalid().len()]].concat()
    };
    text.utf8_chunks().flat_map(part).collect()
}

/// Hands out its bytes in pieces of the given sizes, over and over, and is not ready in between.
struct Pieces {
    bytes: VecDeque<u8>,
    sizes: Vec<usize>,
    epoch: usize,
}

impl AsyncRead for Pieces {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        self.epoch += 1;
        if self.epoch.is_multiple_of(3) {
            return Poll::Pending;
        }
        let size = self.sizes[self.epoch % self.sizes.len()].min(buffer.len()).min(self.bytes.len());
        buffer.iter_mut().zip(self.bytes.drain(..size)).for_each(|(into, byte)| *into = byte);
        Poll::Ready(Ok(size))
    }
}

/// All that comes out for lapin when it reads with room for `room` bytes.
fn through(bytes: Vec<u8>, sizes: Vec<usize>, room: usize) -> Vec<u8> {
    let expected = bytes.len();
    let mut stream = Repaired::new(Pieces { bytes: bytes.into(), sizes, epoch: 0 });
    let (waker, mut out, mut buffer) = (noop_waker(), Vec::new(), vec![0; room]);
    while out.len() < expected {
        match Pin::new(&mut stream).poll_read(&mut Context::from_waker(&waker), &mut buffer) {
            Poll::Ready(read) => {
                let read = read.unwrap();
                assert!(read > 0, "the end came {} bytes early", expected - out.len());
                out.extend_from_slice(&buffer[..read]);
            }
            Poll::Pending => {}
        }
    }
    out
}

fn on_the_wire(frames: &[Frame], text: fn(&[u8]) -> Vec<u8>) -> Vec<u8> {
    frames.iter().flat_map(|frame| frame.bytes(text)).collect()
}

/// Texts in any encoding.
fn foreign() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![utf8(), prop::collection::vec(any::<u8>(), 0..40), Just(b"\xb6\xa9\xb5\xa5-17".to_vec())]
}

fn utf8() -> impl Strategy<Value = Vec<u8>> {
    "[a-z订单é🎫\u{1a}-]{0,12}".prop_map(String::into_bytes)
}

fn frame<T: Strategy<Value = Vec<u8>> + 'static>(text: fn() -> T) -> impl Strategy<Value = Frame> {
    let value = prop_oneof![
        Just(Value::Nothing),
        any::<i64>().prop_map(Value::Number),
        prop::collection::vec(any::<u8>(), 0..40).prop_map(Value::Long),
    ];
    let value = value.prop_recursive(3, 12, 4, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::List),
            prop::collection::vec((text(), inner), 0..4).prop_map(Value::Table),
        ]
    });
    let headers = prop::collection::vec((text(), value), 0..5);
    prop_oneof![
        (text(), text()).prop_map(|(exchange, routing_key)| Frame::Deliver { exchange, routing_key }),
        (text(), text()).prop_map(|(reason, routing_key)| Frame::Return { reason, routing_key }),
        (text(), text(), headers).prop_map(|(message_id, kind, headers)| Frame::Header {
            message_id,
            kind,
            headers
        }),
        prop::collection::vec(any::<u8>(), 0..300).prop_map(Frame::Body),
        Just(Frame::Heartbeat),
        prop::collection::vec(any::<u8>(), 0..20).prop_map(Frame::Other),
    ]
}

fn sizes() -> impl Strategy<Value = Vec<usize>> {
    prop::collection::vec(prop_oneof![1..12usize, 1..500usize], 1..8)
}

proptest! {
    #[test]
    fn what_is_utf8_comes_through_byte_for_byte(
        frames in prop::collection::vec(frame(utf8), 1..20), sizes in sizes(), room in 1..600usize,
    ) {
        let bytes = on_the_wire(&frames, as_written);
        prop_assert_eq!(through(bytes.clone(), sizes, room), bytes);
    }

    #[test]
    fn only_bytes_that_are_not_utf8_are_replaced_however_the_stream_is_cut(
        frames in prop::collection::vec(frame(foreign), 1..20), sizes in sizes(), room in 1..600usize,
    ) {
        let bytes = on_the_wire(&frames, as_written);
        prop_assert_eq!(through(bytes, sizes, room), on_the_wire(&frames, as_utf8));
    }

    #[test]
    fn nonsense_neither_panics_nor_changes_its_length(bytes in prop::collection::vec(any::<u8>(), 0..400), is_header: bool) {
        let mut payload = bytes.clone();
        repair::repair(is_header, &mut payload);
        prop_assert_eq!(payload.len(), bytes.len());
    }
}

#[test]
fn nested_headers_end_at_a_depth_that_recursion_can_bear() {
    // Put together from the inside: building it by recursion would need the stack that this is about.
    let header = |levels| {
        let deep = (0..levels).fold(b"V".to_vec(), |inner, _| [b"A", &*long(&inner)].concat());
        let headers = long(&[b"\x04deep", &*deep].concat());
        let payload = [&[0, 60, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0b0010_0000, 0], &*headers].concat();
        [&[2, 0, 1], &*long(&payload), &[0xce]].concat()
    };
    let harmless = header(16);
    assert_eq!(through(harmless.clone(), vec![100], 100), harmless);
    let before = header(20_000);
    let after = through(before.clone(), vec![100], 100);
    let changed: Vec<_> = before.iter().zip(&after).filter(|(before, after)| before != after).collect();
    assert_eq!((changed, after.len()), (vec![(&b'A', &b'x')], before.len()));
}

#[test]
fn another_protocol_passes_as_it_is() {
    let bytes = b"AMQP\x00\x01\x00\x00 and then anything: \xff\xfe".to_vec();
    assert_eq!(through(bytes.clone(), vec![3], 5), bytes);
}
