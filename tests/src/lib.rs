//! The harness of the stories: a world is one real server on a database of its own, with the
//! simulated driver and a clock that only the story moves. Knows the wire, not the rules: what is
//! right is the stories' to say.

#![expect(clippy::unwrap_used, reason = "a harness that cannot go on fails the story")]
#![expect(
    missing_docs,
    reason = "names of a harness should say it; where they do not, they are told"
)]

pub mod admin;
pub mod answer;
pub mod asyncapi;
pub mod books;
pub mod chance;
pub mod client;
pub mod cut;
pub mod events;
pub mod host;
pub mod invariants;
mod logs;
pub mod mailbox;
pub mod message;
pub mod operator;
pub mod preview;
pub mod program;
pub mod run;
pub mod scrape;
pub mod server;
pub mod serving;
pub mod tables;
pub mod team;
pub mod time;
pub mod world;

pub use admin::Admin;
pub use answer::Answer;
pub use client::Key;
pub use mailbox::Mailbox;
pub use run::Database;
pub use scrape::Scrape;
pub use serde_json::{Value, json};
pub use team::Team;
pub use time::{at, span};
pub use world::World;

/// Makes two tests of each story, `<story>::sqlite` and `<story>::postgres`, so that a failure names
/// the database. A story that is not listed is dead code, which the compiler tells.
#[macro_export]
macro_rules! stories {
    ($($story:ident),* $(,)?) => {$(
        mod $story {
            #[test]
            fn sqlite() {
                $crate::run::story($crate::Database::Sqlite, super::$story);
            }
            #[test]
            fn postgres() {
                $crate::run::story($crate::Database::Postgres, super::$story);
            }
        }
    )*};
}
