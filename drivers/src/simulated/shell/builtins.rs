//! The commands that the simulated shell knows, each cut down to what stories use.

use std::{fmt::Write as _, time::Duration};

use protocol::Reason;

use super::{Shell, Sinks, Stop, assignment, message};
use crate::simulated::{
    clock::later,
    filesystem::{Address, Parents},
};

type Code = Result<i32, Stop>;

impl Shell {
    pub(super) async fn builtin(&mut self, words: &[String], io: &Sinks) -> Code {
        let (name, args) = words.split_first().expect("a step without words runs no builtin");
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        match name.as_str() {
            "true" | ":" => Ok(0),
            "false" => Ok(1),
            "exit" => Err(Stop::Exit(match args.first() {
                Some(code) => code.parse::<u8>().map_or(2, i32::from),
                None => self.last_code,
            })),
            "echo" => {
                let (rest, end) = match args.as_slice() {
                    ["-n", rest @ ..] => (rest, ""),
                    rest => (rest, "\n"),
                };
                self.say(io, &format!("{}{end}", rest.join(" "))).await
            }
            "printf" => self.say_bytes(io, &formatted(&args)).await,
            "cat" => self.cat(&args, io).await,
            "env" => {
                let lines =
                    self.variables.iter().fold(String::new(), |mut lines, (name, value)| {
                        let _ = writeln!(lines, "{name}={value}");
                        lines
                    });
                self.say(io, &lines).await
            }
            "pwd" => {
                let cwd = self.cwd.join("/");
                self.say(io, &format!("/{cwd}\n")).await
            }
            "seq" => self.seq(&args, io).await,
            "yes" => self.yes(&args, io).await,
            "sleep" => self.sleep(&args, io).await,
            "test" | "[" => Ok(i32::from(!self.test(&args))),
            "cd" | "mkdir" | "touch" | "ln" => self.files(name, &args, io).await,
            "export" => {
                for (name, value) in args.iter().filter_map(|word| assignment(word)) {
                    self.variables.insert(name.to_owned(), value.to_owned());
                }
                Ok(0)
            }
            "trap" => {
                if matches!(args.as_slice(), ["", signals @ ..] if signals.contains(&"TERM")) {
                    self.process.ignore_term();
                    return Ok(0);
                }
                self.complain(io, 2, "trap: only trap '' TERM is simulated").await
            }
            unknown => self.complain(io, 127, &format!("sh: {unknown}: not found")).await,
        }
    }

    async fn say(&mut self, io: &Sinks, text: &str) -> Code {
        self.say_bytes(io, text.as_bytes()).await
    }

    async fn say_bytes(&mut self, io: &Sinks, bytes: &[u8]) -> Code {
        match self.write(&io.stdout, bytes).await {
            Ok(()) => Ok(0),
            Err(reason) => {
                self.complain(io, 1, &format!("sh: write error: {}", message(reason))).await
            }
        }
    }

    async fn complain(&mut self, io: &Sinks, code: i32, text: &str) -> Code {
        // Like a real program, it has nowhere to report that its complaint could not be written.
        let _ = self.write(&io.stderr, format!("{text}\n").as_bytes()).await;
        Ok(code)
    }

    async fn cat(&mut self, paths: &[&str], io: &Sinks) -> Code {
        let mut code = 0;
        for path in paths {
            let read =
                self.process.machine.filesystem().read(&Address::in_sandbox(&self.cwd, path));
            code = code.max(match read {
                Ok((_, data)) => self.say_bytes(io, &data).await?,
                Err(reason) => {
                    self.complain(io, 1, &format!("cat: {path}: {}", message(reason))).await?
                }
            });
        }
        Ok(code)
    }

    async fn seq(&mut self, args: &[&str], io: &Sinks) -> Code {
        let numbers: Option<Vec<i64>> = args.iter().map(|arg| arg.parse().ok()).collect();
        let (first, last) = match numbers.as_deref() {
            Some([last]) => (1, *last),
            Some([first, last]) => (*first, *last),
            _ => return self.complain(io, 1, "seq: wants one or two numbers").await,
        };
        let mut lines = String::new();
        for number in first..=last {
            let _ = writeln!(lines, "{number}");
        }
        self.say(io, &lines).await
    }

    /// `yes N` prints N lines; `yes` alone prints until it is ended.
    async fn yes(&mut self, args: &[&str], io: &Sinks) -> Code {
        const LINES: usize = 8192;
        let mut left = match args {
            [] => usize::MAX,
            [count, ..] => count.parse().unwrap_or(usize::MAX),
        };
        while left > 0 {
            let now = left.min(LINES);
            let code = self.say_bytes(io, &b"y\n".repeat(now)).await?;
            if code != 0 {
                return Ok(code);
            }
            left -= now;
        }
        Ok(0)
    }

    async fn sleep(&mut self, args: &[&str], io: &Sinks) -> Code {
        let length = match args {
            ["infinity"] => Some(Duration::MAX),
            [seconds] => seconds_of(seconds),
            _ => None,
        };
        let Some(length) = length else {
            return self.complain(io, 1, "sleep: invalid time interval").await;
        };
        let until = later(self.process.now(), length);
        self.process.sleep_until(until).await;
        Ok(0)
    }

    fn test(&self, args: &[&str]) -> bool {
        let args = match args {
            [args @ .., "]"] => args,
            args => args,
        };
        let stat = |path: &str| {
            self.process.machine.filesystem().stat(&Address::in_sandbox(&self.cwd, path)).ok()
        };
        let is = |path, kind| stat(path).is_some_and(|stat| stat.r#type() == kind);
        match args {
            ["-e", path] => stat(path).is_some(),
            ["-f", path] => is(path, protocol::FileType::File),
            ["-d", path] => is(path, protocol::FileType::Directory),
            ["-z", text] => text.is_empty(),
            ["-n", text] | [text] => !text.is_empty(),
            [left, "=", right] => left == right,
            [left, "!=", right] => left != right,
            ["!", rest @ ..] => !self.test(rest),
            _ => false,
        }
    }

    async fn files(&mut self, name: &str, args: &[&str], io: &Sinks) -> Code {
        match self.change_files(name, args) {
            Ok(()) => Ok(0),
            Err(reason) => {
                let text = format!("{name}: {}: {}", args.join(" "), message(reason));
                self.complain(io, 1, &text).await
            }
        }
    }

    fn change_files(&mut self, name: &str, args: &[&str]) -> Result<(), Reason> {
        let now = self.process.now();
        let address = |path: &&str| Address::in_sandbox(&self.cwd, path);
        let mut filesystem = self.process.machine.filesystem();
        match (name, args) {
            ("cd", [path]) => {
                let cwd = filesystem.directory(&address(path))?;
                drop(filesystem);
                self.cwd = cwd;
            }
            ("mkdir", ["-p", paths @ ..]) => {
                for path in paths {
                    filesystem.make_directory(&address(path), Parents::Create, now)?;
                }
            }
            ("mkdir", paths) => {
                for path in paths {
                    filesystem.make_directory(&address(path), Parents::Require, now)?;
                }
            }
            ("touch", paths) => {
                for path in paths {
                    filesystem.touch(&address(path), now)?;
                }
            }
            ("ln", ["-s", target, path]) => filesystem.link(target, &address(path), now)?,
            _ => return Err(Reason::Unspecified),
        }
        Ok(())
    }
}

/// Whole and fractional seconds, exactly.
fn seconds_of(text: &str) -> Option<Duration> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let whole = if whole.is_empty() { 0 } else { whole.parse().ok()? };
    let digits: String = fraction.chars().chain("000000000".chars()).take(9).collect();
    Some(Duration::new(whole, digits.parse().ok()?))
}

/// `printf`: the format is used again until all arguments are.
fn formatted(args: &[&str]) -> Vec<u8> {
    let Some((format, mut values)) = args.split_first() else { return Vec::new() };
    let mut bytes = Vec::new();
    loop {
        let n_before = values.len();
        format_once(format, &mut values, &mut bytes);
        if values.is_empty() || values.len() == n_before {
            return bytes;
        }
    }
}

fn format_once(format: &str, values: &mut &[&str], bytes: &mut Vec<u8>) {
    let mut rest = format.bytes().peekable();
    let mut next_value = || match values.split_first() {
        Some((value, others)) => {
            *values = others;
            *value
        }
        None => "",
    };
    while let Some(byte) = rest.next() {
        match byte {
            b'%' => match rest.next() {
                Some(b's') => bytes.extend(next_value().bytes()),
                Some(b'd') => {
                    let number: i64 = next_value().parse().unwrap_or(0);
                    bytes.extend(number.to_string().bytes());
                }
                Some(b'%') | None => bytes.push(b'%'),
                Some(other) => bytes.extend([b'%', other]),
            },
            b'\\' => match rest.next() {
                Some(b'n') => bytes.push(b'\n'),
                Some(b't') => bytes.push(b'\t'),
                Some(b'r') => bytes.push(b'\r'),
                Some(digit @ b'0'..=b'7') => {
                    let mut value = digit - b'0';
                    for _ in 0..2 {
                        if let Some(digit) = rest.next_if(|next| (b'0'..=b'7').contains(next)) {
                            value = value.wrapping_mul(8).wrapping_add(digit - b'0');
                        }
                    }
                    bytes.push(value);
                }
                Some(b'\\') | None => bytes.push(b'\\'),
                Some(other) => bytes.extend([b'\\', other]),
            },
            byte => bytes.push(byte),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn printf_prints_bytes() {
        for (args, wanted) in [
            (&["a\\n"][..], &b"a\n"[..]),
            (&["\\303\\251"], b"\xc3\xa9"),
            (&["%s-%d\\n", "a", "1", "b", "2"], b"a-1\nb-2\n"),
            (&["%%%s"], b"%"),
            (&["x", "unused"], b"x"),
            (&[], b""),
        ] {
            assert_eq!(formatted(args), wanted, "{args:?}");
        }
    }

    #[test]
    fn seconds_are_exact() {
        for (text, wanted) in [
            ("1", Some(Duration::from_secs(1))),
            ("0.25", Some(Duration::from_millis(250))),
            (".5", Some(Duration::from_millis(500))),
            ("x", None),
            ("1.x", None),
        ] {
            assert_eq!(seconds_of(text), wanted, "{text}");
        }
    }
}
