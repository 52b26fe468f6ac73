//! What a command printed and nobody has stored yet: numbered pieces of text within a fixed amount
//! of memory. Decodes bytes; knows no processes.

use std::collections::VecDeque;

use chrono::{DateTime, Utc};
use protocol::{Output, Stream};

const MAX_PIECE_BYTES: usize = 64 * 1024;
const MAX_HELD_BYTES: usize = 4 * 1024 * 1024;

/// The output of one command that is not acknowledged yet.
#[derive(Debug, Default)]
pub(super) struct Buffer {
    pieces: VecDeque<Output>,
    held_bytes: usize,
    last_seq: u64,
    /// The beginnings of characters whose rest is yet to be written.
    unfinished_stdout: Vec<u8>,
    unfinished_stderr: Vec<u8>,
}

impl Buffer {
    /// Whether a writer may go on or is held back.
    pub fn has_room(&self) -> bool {
        self.held_bytes < MAX_HELD_BYTES
    }

    pub fn last_seq(&self) -> u64 {
        self.last_seq
    }

    /// Adds bytes of one stream. An unfinished character waits for its rest.
    pub fn push(&mut self, stream: Stream, bytes: &[u8], at: DateTime<Utc>) {
        let unfinished = self.unfinished(stream);
        let mut bytes = [unfinished.as_slice(), bytes].concat();
        let end = bytes.len() - unfinished_suffix(&bytes);
        *unfinished = bytes.split_off(end);
        self.push_text(stream, &String::from_utf8_lossy(&bytes), at);
    }

    /// Ends both streams: what is still unfinished was never a character.
    pub fn finish(&mut self, at: DateTime<Utc>) {
        for stream in [Stream::Stdout, Stream::Stderr] {
            let rest = std::mem::take(self.unfinished(stream));
            self.push_text(stream, &String::from_utf8_lossy(&rest), at);
        }
    }

    /// Drops the pieces up to `seq`.
    pub fn acknowledge(&mut self, seq: u64) {
        while let Some(piece) = self.pieces.pop_front_if(|piece| piece.seq <= seq) {
            self.held_bytes -= piece.data.len();
        }
    }

    /// Everything held after `seq`.
    pub fn after(&self, seq: u64) -> Vec<Output> {
        self.pieces.iter().filter(|piece| piece.seq > seq).cloned().collect()
    }

    fn push_text(&mut self, stream: Stream, mut text: &str, at: DateTime<Utc>) {
        while !text.is_empty() {
            let (piece, rest) = text.split_at(text.floor_char_boundary(MAX_PIECE_BYTES));
            text = rest;
            self.last_seq += 1;
            self.held_bytes += piece.len();
            self.pieces.push_back(Output {
                seq: self.last_seq,
                stream: stream.into(),
                data: piece.to_owned(),
                at_unix_micros: at.timestamp_micros(),
            });
        }
    }

    fn unfinished(&mut self, stream: Stream) -> &mut Vec<u8> {
        match stream {
            Stream::Stderr => &mut self.unfinished_stderr,
            Stream::Stdout | Stream::Unspecified => &mut self.unfinished_stdout,
        }
    }
}

/// The length of a character's beginning at the end of `bytes` that more bytes could complete.
fn unfinished_suffix(bytes: &[u8]) -> usize {
    let tail = &bytes[bytes.len().saturating_sub(3)..];
    (0..tail.len())
        .map(|start| &tail[start..])
        .find(|suffix| {
            std::str::from_utf8(suffix)
                .is_err_and(|error| error.valid_up_to() == 0 && error.error_len().is_none())
        })
        .map_or(0, <[u8]>::len)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(writes: &[&[u8]]) -> Vec<String> {
        let mut buffer = Buffer::default();
        for bytes in writes {
            buffer.push(Stream::Stdout, bytes, DateTime::UNIX_EPOCH);
        }
        buffer.finish(DateTime::UNIX_EPOCH);
        buffer.after(0).into_iter().map(|piece| piece.data).collect()
    }

    #[test]
    fn characters_stay_whole_and_bytes_that_are_none_are_replaced() {
        for (writes, wanted, why) in [
            (vec![&b"a"[..], b"b"], vec!["a", "b"], "writes are pieces"),
            (vec![b"a\xe2", b"\x82\xac"], vec!["a", "\u{20ac}"], "a character cut in two"),
            (vec![b"\xe2\x82"], vec!["\u{fffd}"], "a character that never ends"),
            (vec![b"\xffa"], vec!["\u{fffd}a"], "a byte that is no character"),
            (vec![], vec![], "nothing"),
        ] {
            assert_eq!(texts(&writes), wanted, "{why}");
        }
    }

    #[test]
    fn a_full_buffer_has_room_again_once_acknowledged() {
        let mut buffer = Buffer::default();
        while buffer.has_room() {
            buffer.push(Stream::Stdout, &[b'y'; MAX_PIECE_BYTES], DateTime::UNIX_EPOCH);
        }
        assert_eq!(buffer.last_seq(), 64);
        buffer.acknowledge(1);
        assert!(buffer.has_room());
        assert_eq!(buffer.after(0).first().map(|piece| piece.seq), Some(2));
    }
}
