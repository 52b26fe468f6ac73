//! The operator's command line in a story: the program's own, on the world's database, with what its
//! clock shows, and like a process of its own: no server need run, and none is told but as servers are.

use std::sync::Arc;

use api::{
    cli::{self, Cli, Command, Ending, Failure, operator::billing},
    clock::ManualClock,
    config::Config,
};
use clap::Parser;

use crate::world::World;

/// How a command ended.
#[derive(Debug)]
pub struct Said {
    line: String,
    /// As the shell would see it.
    pub code: u8,
    /// What it answered, or what it complained of.
    pub text: String,
}

/// Runs `crownest billing <line>`. A word in single quotes may have spaces.
pub async fn says(world: &World, line: &str) -> Said {
    let said = |code: u8, text: String| Said { line: line.to_owned(), code, text };
    let mut words = vec!["crownest".to_owned(), "billing".to_owned()];
    for (at, part) in line.split('\'').enumerate() {
        if at % 2 == 1 {
            words.push(part.to_owned());
        } else {
            words.extend(part.split_whitespace().map(str::to_owned));
        }
    }
    let command = match Cli::try_parse_from(&words).map(|cli| cli.command) {
        Ok(Command::Billing(command)) => command,
        Ok(other) => panic!("{line:?} is no command about money: {other:?}"),
        Err(error) => return said(u8::try_from(error.exit_code()).unwrap(), error.to_string()),
    };
    let clock = Arc::new(ManualClock::at(world.now()));
    let app = cli::on_no_host(Config::default(), world.db().clone(), clock);
    let mut out = Vec::new();
    let ended = billing::run(&app, command, &mut out).await;
    match (ended, String::from_utf8(out).unwrap()) {
        (Ok(Ending::Done), text) => said(0, text),
        (Ok(Ending::Wrong), text) => said(1, text),
        (Ok(Ending::Program(code)), text) => said(code, text),
        (Err(failure @ Failure::Argument(_)), _) => said(2, failure.to_string()),
        (Err(failure), _) => said(3, failure.to_string()),
    }
}

impl Said {
    /// Its answer, if it did what was asked.
    #[must_use]
    #[track_caller]
    pub fn is_done(self) -> String {
        assert_eq!(self.code, 0, "{self:?}");
        self.text
    }

    /// Says that an argument was refused by a text that holds these words.
    #[track_caller]
    pub fn is_refused(self, words: &str) {
        assert_eq!(self.code, 2, "{self:?}");
        assert!(self.text.contains(words), "{:?} instead of {words:?}: {}", self.text, self.line);
    }
}
