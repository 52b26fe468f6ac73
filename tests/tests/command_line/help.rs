//! What the program says about its commands: every one is told, with examples that are right.

use api::cli::Cli;
use clap::{Command, CommandFactory, Parser};

/// Calls `look` for a command and all below it, with the words that lead there.
fn walk(command: &Command, path: &str, look: &mut impl FnMut(&Command, &str)) {
    let path = format!("{path}{}", command.get_name());
    look(command, &path);
    command.get_subcommands().for_each(|below| walk(below, &format!("{path} "), look));
}

fn help_of(command: &Command) -> String {
    command.get_after_help().map(ToString::to_string).unwrap_or_default()
}

#[test]
fn every_command_and_argument_says_what_it_is_for() {
    Cli::command().debug_assert();
    let mut silent = Vec::new();
    walk(&Cli::command(), "", &mut |command, path| {
        if command.get_about().is_none() {
            silent.push(path.to_owned());
        }
        let arguments = command.get_arguments().filter(|argument| argument.get_help().is_none());
        silent.extend(arguments.map(|argument| format!("{path} {}", argument.get_id())));
    });
    assert!(silent.is_empty(), "{silent:?}");
}

#[test]
fn every_command_has_an_example_and_says_its_exit_codes() {
    let mut silent = Vec::new();
    walk(&Cli::command(), "", &mut |command, path| {
        let help = help_of(command);
        for part in ["Examples:\n    crownest ", "Exit codes:\n    "] {
            if !help.contains(part) {
                silent.push(format!("{path}: {part:?}"));
            }
        }
    });
    assert!(silent.is_empty(), "{silent:#?}");
}

/// The words of an example as a shell reads them, up to where its own business begins.
fn words(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    for (at, part) in line.split('\'').enumerate() {
        if at % 2 == 1 {
            words.push(part.to_owned());
        } else {
            words.extend(part.split_whitespace().map(str::to_owned));
        }
    }
    let end = words.iter().position(|word| ["|", ">", "<"].contains(&word.as_str()));
    words.truncate(end.unwrap_or(words.len()));
    words
}

#[test]
fn every_example_is_right() {
    let mut wrong = Vec::new();
    walk(&Cli::command(), "", &mut |command, path| {
        let help = help_of(command);
        let (examples, _) = help.split_once("Exit codes:").unwrap_or_default();
        for example in examples.lines().map(str::trim).filter(|line| line.contains("crownest ")) {
            // What comes before a pipe into this program is somebody else's.
            let own = &example[example.find("crownest ").unwrap_or_default()..];
            // Files and variables of an example are not here.
            let own = own.replace("--put main.py ", "").replace("--env TOKEN ", "");
            if let Err(error) = Cli::try_parse_from(words(&own)) {
                wrong.push(format!("{path}: {example}\n{error}"));
            }
        }
    });
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn shells_are_told_about_every_command() {
    for shell in ["bash", "zsh", "fish"] {
        let done = crate::crownest(&["completions", shell], &[]);
        assert!(done.status.success(), "{shell}: {done:?}");
        let script = String::from_utf8(done.stdout).unwrap();
        for word in ["sandbox", "completions", "pricing", "suspend"] {
            assert!(script.contains(word), "{shell}: nothing about {word}");
        }
    }
}
