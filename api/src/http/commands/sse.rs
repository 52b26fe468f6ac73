//! Server-sent events, byte-exact as the clients' parsers need them (contract, section 10.7): LF only,
//! one data line, nothing but ASCII in it, no line of 4 MiB.

use std::io;

use bytes::Bytes;
use poem_openapi::{Enum, Object, types::ToJSON};
use serde::Serialize;
use serde_json::{Value, ser::Formatter};

use domain::command::{Command, Inline};

use super::CommandView;
use crate::{app::commands::CommandEvent, http::wire::Text};

/// The longest data line: the smallest reader among the clients stops at 4 MiB.
const MAX_LINE: usize = (4 << 20) - 1024;

/// A server-sent event.
#[derive(Debug, Object)]
#[oai(rename = "CommandStreamEvent", skip_serializing_if_is_none)]
pub struct Event {
    /// Of a `log` event: its `seq`.
    id: Option<String>,
    event: Kind,
    /// A JSON object whose `type` is the same as `event`.
    data: String,
}

/// What an event tells.
#[derive(Debug, Clone, Copy, Enum)]
#[oai(rename = "CommandStreamEventType", rename_all = "snake_case")]
enum Kind {
    Log,
    Heartbeat,
    Terminal,
    Error,
}

impl Kind {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Log => "log",
            Self::Heartbeat => "heartbeat",
            Self::Terminal => "terminal",
            Self::Error => "error",
        }
    }
}

/// The data of an event; `type` is what clients dispatch by.
#[derive(Debug, Serialize)]
#[serde(tag = "type", rename_all = "snake_case", rename_all_fields = "camelCase")]
enum Data<'e> {
    Log { seq: u64, stream: &'static str, data: &'e str, created_at: String },
    Heartbeat { created_at: String },
    Terminal { command: Option<Value>, created_at: String },
    Error { code: &'static str, message: &'e str, created_at: String },
}

/// Prints one event.
#[must_use]
pub fn frame(event: &CommandEvent) -> Bytes {
    let (id, kind, data) = match event {
        CommandEvent::Log(chunk) => {
            let data = Data::Log {
                seq: chunk.seq,
                stream: chunk.stream.as_str(),
                data: &chunk.data,
                created_at: chunk.created_at.print(),
            };
            (Some(chunk.seq.to_string()), Kind::Log, data)
        }
        CommandEvent::Heartbeat(at) => {
            (None, Kind::Heartbeat, Data::Heartbeat { created_at: at.print() })
        }
        CommandEvent::Terminal(command, at) => {
            let command = CommandView::from(&shortened(command)).to_json();
            (None, Kind::Terminal, Data::Terminal { command, created_at: at.print() })
        }
        CommandEvent::Error { code, message, at } => {
            let code = code.as_str();
            (None, Kind::Error, Data::Error { code, message, created_at: at.print() })
        }
    };
    Event { id, event: kind, data: ascii(&data) }.print()
}

impl Event {
    fn print(&self) -> Bytes {
        let Self { id, event, data } = self;
        let id = id.as_ref().map(|id| format!("id: {id}\n")).unwrap_or_default();
        format!("{id}event: {}\ndata: {data}\n\n", event.as_str()).into()
    }
}

fn ascii(value: &impl Serialize) -> String {
    let mut text = Vec::new();
    let mut serializer = serde_json::Serializer::with_formatter(&mut text, Ascii);
    value.serialize(&mut serializer).expect("texts and numbers can be printed");
    String::from_utf8(text).expect("it is ASCII")
}

/// Escapes everything outside ASCII: some line readers split at U+0085, U+2028 and their like.
/// Control characters are escaped by serde_json already.
struct Ascii;

impl Formatter for Ascii {
    fn write_string_fragment<W: ?Sized + io::Write>(
        &mut self,
        writer: &mut W,
        fragment: &str,
    ) -> io::Result<()> {
        let mut rest = fragment;
        while let Some(at) = rest.find(|c: char| !c.is_ascii()) {
            let (plain, other) = rest.split_at(at);
            writer.write_all(plain.as_bytes())?;
            let mut chars = other.chars();
            for unit in chars.next().into_iter().flat_map(|c| {
                let mut units = [0; 2];
                c.encode_utf16(&mut units).to_vec()
            }) {
                write!(writer, "\\u{unit:04x}")?;
            }
            rest = chars.as_str();
        }
        writer.write_all(rest.as_bytes())
    }
}

/// The command with as much of its output as fits a line once escaped.
fn shortened(command: &Command) -> Command {
    let mut command = command.clone();
    let (stdout, stderr) = (command.stdout.take(), command.stderr.take());
    let bare = ascii(&CommandView::from(&command).to_json());
    let room = MAX_LINE.saturating_sub(bare.len());
    let size = |output: &Option<Inline>| {
        output.as_ref().map_or(0, |inline| inline.text.chars().map(escaped_len).sum::<usize>())
    };
    let (n_out, n_err) = (size(&stdout), size(&stderr));
    // What one stream leaves of its half, the other one may have.
    let out_room = (room / 2).max(room.saturating_sub(n_err));
    let err_room = room - n_out.min(out_room);
    command.stdout = stdout.map(|inline| cut(inline, out_room));
    command.stderr = stderr.map(|inline| cut(inline, err_room));
    command
}

fn cut(mut inline: Inline, room: usize) -> Inline {
    let mut used = 0;
    let end = inline.text.char_indices().find_map(|(at, c)| {
        used += escaped_len(c);
        (used > room).then_some(at)
    });
    if let Some(end) = end {
        inline.text.truncate(end);
        inline.truncated = true;
    }
    inline
}

/// Bytes of a character in a JSON string of ASCII.
const fn escaped_len(c: char) -> usize {
    match c {
        '"' | '\\' | '\n' | '\r' | '\t' | '\u{8}' | '\u{c}' => 2,
        '\0'..='\u{1f}' => 6,
        ' '..='\u{7f}' => 1,
        _ => 6 * c.len_utf16(),
    }
}

#[cfg(test)]
mod tests {
    use chrono::{DateTime, Utc};
    use domain::{Code, command::OutputStream};
    use store::commands::LogChunk;

    use super::*;
    use crate::http::commands::tests::command;

    fn at() -> DateTime<Utc> {
        "2026-06-09T15:30:00Z".parse().unwrap()
    }

    fn log(data: &str) -> String {
        let stream = OutputStream::Stdout;
        let chunk = LogChunk { seq: 1, stream, data: data.to_owned(), created_at: at() };
        String::from_utf8(frame(&CommandEvent::Log(chunk)).to_vec()).unwrap()
    }

    #[test]
    fn a_frame_is_the_contract_s_byte_for_byte() {
        assert_eq!(
            log("ready\n"),
            "id: 1\nevent: log\ndata: {\"type\":\"log\",\"seq\":1,\"stream\":\"stdout\",\
             \"data\":\"ready\\n\",\"createdAt\":\"2026-06-09T15:30:00.000Z\"}\n\n"
        );
        let heartbeat = frame(&CommandEvent::Heartbeat(at()));
        assert_eq!(
            heartbeat,
            "event: heartbeat\ndata: {\"type\":\"heartbeat\",\
             \"createdAt\":\"2026-06-09T15:30:00.000Z\"}\n\n"
        );
        let error = CommandEvent::Error { code: Code::StreamGap, message: "gone".into(), at: at() };
        assert_eq!(
            frame(&error),
            "event: error\ndata: {\"type\":\"error\",\"code\":\"stream_gap\",\"message\":\"gone\",\
             \"createdAt\":\"2026-06-09T15:30:00.000Z\"}\n\n"
        );
    }

    #[test]
    fn no_output_breaks_a_line_reader() {
        for (data, escaped) in [
            ("a\u{2028}b\u{2029}", r"a\u2028b\u2029"),
            ("\u{85}", r"\u0085"),
            ("\u{b}\u{c}\u{1c}\u{1d}\u{1e}", r"\u000b\f\u001c\u001d\u001e"),
            ("a\r\nb\n\n", r"a\r\nb\n\n"),
            ("😀ü", r"\ud83d\ude00\u00fc"),
            ("data: x\n\nid: 9", r"data: x\n\nid: 9"),
            ("\"\\", r#"\"\\"#),
        ] {
            let frame = log(data);
            assert!(frame.is_ascii(), "{data:?}");
            assert!(frame.contains(&format!("\"data\":\"{escaped}\"")), "{data:?}: {frame}");
            assert_eq!(frame.matches('\n').count(), 4, "{data:?}");
            let json = frame.lines().nth(2).unwrap().strip_prefix("data: ").unwrap();
            let json: Value = serde_json::from_str(json).unwrap();
            assert_eq!(json["data"], data);
        }
    }

    #[test]
    fn the_longest_output_fits_a_line() {
        let inline = |text: &str, n: usize| Some(Inline { text: text.repeat(n), truncated: false });
        for (stdout, stderr, cut, why) in [
            (inline("a", 1 << 20), inline("b", 1 << 20), (None, None), "plain text fits"),
            (inline("\u{1}", 1 << 20), inline("b", 10), (Some(true), None), "6 MiB and little"),
            (inline("\u{1}", 1 << 20), inline("é", 1 << 19), (Some(true), Some(true)), "both"),
            (inline("b", 10), inline("😀", 1 << 18), (None, None), "3 MiB and little"),
        ] {
            let command = Command { stdout, stderr, ..command() };
            let event = CommandEvent::Terminal(Box::new(command), at());
            let frame = String::from_utf8(frame(&event).to_vec()).unwrap();
            let line = frame.lines().nth(1).unwrap();
            assert!(line.len() < 4 << 20, "{why}: {}", line.len());
            let json: Value = serde_json::from_str(line.strip_prefix("data: ").unwrap()).unwrap();
            let flag = |name: &str| json["command"][name].as_bool();
            assert_eq!((flag("stdoutTruncated"), flag("stderrTruncated")), cut, "{why}");
            if cut.0.is_some() {
                assert!(line.len() > 3 << 20, "{why}: no more is cut than needed");
            }
        }
    }
}
