//! Turns bytes of a program into text without ever splitting a character. Knows nothing of pipes.

use std::{mem, str};

/// One stream's decoder: holds back the beginning of a character until the rest arrives.
#[derive(Default)]
pub struct Decoder {
    /// At most three bytes that may become a character.
    held: Vec<u8>,
}

impl Decoder {
    /// Adds the text of these bytes; invalid ones become U+FFFD.
    pub fn decode(&mut self, bytes: &[u8], text: &mut String) {
        let joined;
        let mut rest = if self.held.is_empty() {
            bytes
        } else {
            self.held.extend_from_slice(bytes);
            joined = mem::take(&mut self.held);
            &joined
        };
        loop {
            match str::from_utf8(rest) {
                Ok(valid) => return text.push_str(valid),
                Err(error) => {
                    let (valid, after) = rest.split_at(error.valid_up_to());
                    text.push_str(&String::from_utf8_lossy(valid));
                    let Some(n_invalid) = error.error_len() else {
                        self.held = after.to_vec();
                        return;
                    };
                    text.push(char::REPLACEMENT_CHARACTER);
                    rest = after.get(n_invalid..).unwrap_or_default();
                }
            }
        }
    }

    /// Gives up waiting for the rest of a character.
    pub fn finish(&mut self, text: &mut String) {
        if !mem::take(&mut self.held).is_empty() {
            text.push(char::REPLACEMENT_CHARACTER);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// However the bytes are cut, the text is the same as that of the whole.
    #[test]
    fn cuts_do_not_show() {
        for input in [
            "plain".as_bytes(),
            "é漢😀 mixed ü".as_bytes(),
            b"\xff\xfe bad \xe6\xbc then \xf0\x9f\x98 end",
            b"\xf0\x9f",
            b"\xed\xa0\x80 surrogate \xc0\x80",
        ] {
            let whole = String::from_utf8_lossy(input);
            for step in 1..=input.len() {
                let (mut decoder, mut text) = (Decoder::default(), String::new());
                for piece in input.chunks(step) {
                    decoder.decode(piece, &mut text);
                }
                decoder.finish(&mut text);
                assert_eq!(text, whole, "in steps of {step}");
            }
        }
    }
}
