//! A shell of a few words, enough for stories: runs the steps of a command line one after another.
//! What single commands do is in `builtins`; there are no other programs.

mod builtins;
mod parse;

use std::collections::BTreeMap;

use protocol::{Reason, Stream};

use self::parse::{Part, Redirect, Step, To, When, Word};
use super::{
    filesystem::{Address, Existing, Parents},
    process::Process,
};

/// Why a command line ended before its end.
#[derive(Debug)]
enum Stop {
    /// `exit` was run.
    Exit(i32),
}

/// Where a stream of a command goes.
#[derive(Debug, Clone)]
enum Sink {
    Stream(Stream),
    File(Address),
}

/// The two output streams of one step.
#[derive(Debug, Clone)]
struct Sinks {
    stdout: Sink,
    stderr: Sink,
}

/// A shell that runs one command line.
#[derive(Debug)]
pub(super) struct Shell {
    pub process: Process,
    cwd: Vec<String>,
    variables: BTreeMap<String, String>,
    last_code: i32,
}

impl Shell {
    pub fn new(process: Process, cwd: Vec<String>, variables: BTreeMap<String, String>) -> Self {
        Self { process, cwd, variables, last_code: 0 }
    }

    /// Runs a command line and returns its exit code.
    pub async fn run(&mut self, line: &str) -> i32 {
        let steps = match parse::parse(line) {
            Ok(steps) => steps,
            Err(error) => {
                self.process.print(Stream::Stderr, format!("sh: {error}\n").as_bytes()).await;
                return 2;
            }
        };
        for step in &steps {
            let runs = match step.when {
                When::Always => true,
                When::Succeeded => self.last_code == 0,
                When::Failed => self.last_code != 0,
            };
            if runs {
                match self.step(step).await {
                    Ok(code) => self.last_code = code,
                    Err(Stop::Exit(code)) => return code,
                }
            }
        }
        self.last_code
    }

    async fn step(&mut self, step: &Step) -> Result<i32, Stop> {
        let mut sinks =
            Sinks { stdout: Sink::Stream(Stream::Stdout), stderr: Sink::Stream(Stream::Stderr) };
        for redirect in &step.redirects {
            if let Err((path, reason)) = self.redirect(&mut sinks, redirect) {
                let text = format!("sh: cannot create {path}: {}\n", message(reason));
                self.process.print(Stream::Stderr, text.as_bytes()).await;
                return Ok(2);
            }
        }
        let mut words: Vec<String> =
            step.words.iter().filter_map(|word| self.expanded(word)).collect();
        let n_assignments = words.iter().take_while(|word| assignment(word).is_some()).count();
        let saved = self.variables.clone();
        for word in words.drain(..n_assignments) {
            if let Some((name, value)) = assignment(&word) {
                self.variables.insert(name.to_owned(), value.to_owned());
            }
        }
        if words.is_empty() {
            return Ok(0);
        }
        let ran = self.builtin(&words, &sinks).await;
        if n_assignments > 0 {
            self.variables = saved;
        }
        ran
    }

    fn redirect(&mut self, sinks: &mut Sinks, redirect: &Redirect) -> Result<(), (String, Reason)> {
        let sink = match &redirect.to {
            To::Fd(1) => sinks.stdout.clone(),
            To::Fd(_) => sinks.stderr.clone(),
            To::File(word) => self.open(word, Existing::Replace)?,
            To::EndOfFile(word) => self.open(word, Existing::Extend)?,
        };
        match redirect.fd {
            1 => sinks.stdout = sink,
            _ => sinks.stderr = sink,
        }
        Ok(())
    }

    /// Makes the file of a redirection, or empties it.
    fn open(&self, word: &Word, existing: Existing) -> Result<Sink, (String, Reason)> {
        let path = self.expanded(word).unwrap_or_default();
        let address = Address::in_sandbox(&self.cwd, &path);
        let now = self.process.now();
        let mut filesystem = self.process.machine.filesystem();
        match filesystem.write(&address, Vec::new(), existing, Parents::Require, now) {
            Ok(_) => Ok(Sink::File(address)),
            Err(reason) => Err((path, reason)),
        }
    }

    /// A word with its variables filled in; `None` if nothing of it is left. Values are not split.
    fn expanded(&self, word: &Word) -> Option<String> {
        let mut text = String::new();
        for part in &word.parts {
            match part {
                Part::Text(literal) => text.push_str(literal),
                Part::Variable(name) if name == "?" => text.push_str(&self.last_code.to_string()),
                Part::Variable(name) if name == "$" => text.push('2'),
                Part::Variable(name) => {
                    text.push_str(self.variables.get(name).map_or("", String::as_str));
                }
            }
        }
        (word.quoted || !text.is_empty()).then_some(text)
    }

    /// Writes to a stream or to the file that it was redirected to.
    async fn write(&mut self, sink: &Sink, bytes: &[u8]) -> Result<(), Reason> {
        match sink {
            Sink::Stream(stream) => {
                self.process.print(*stream, bytes).await;
                Ok(())
            }
            Sink::File(address) => {
                let now = self.process.now();
                let mut filesystem = self.process.machine.filesystem();
                let (extend, require) = (Existing::Extend, Parents::Require);
                filesystem.write(address, bytes.to_vec(), extend, require, now).map(drop)
            }
        }
    }
}

/// `name` and `value` of a word like `name=value`.
fn assignment(word: &str) -> Option<(&str, &str)> {
    let (name, value) = word.split_once('=')?;
    let first = name.chars().next()?;
    let legal = name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    (legal && !first.is_ascii_digit()).then_some((name, value))
}

/// How a real system would word a refusal.
fn message(reason: Reason) -> &'static str {
    match reason {
        Reason::FileNotFound | Reason::ParentNotFound => "No such file or directory",
        Reason::AlreadyExists => "File exists",
        Reason::IsDirectory => "Is a directory",
        Reason::NotDirectory => "Not a directory",
        Reason::DirectoryNotEmpty => "Directory not empty",
        Reason::NoSpace => "No space left on device",
        Reason::OutsideWorkspace | Reason::NotPermitted => "Permission denied",
        Reason::Unspecified
        | Reason::UnknownCommand
        | Reason::FileTooLarge
        | Reason::InvalidPath
        | Reason::WorkspaceRoot
        | Reason::TooManyCommands
        | Reason::ConnectionRefused
        | Reason::NotRegularFile
        | Reason::TooManyEntries => "Input/output error",
    }
}
