//! Artifacts of real servers: killed in the middle of writing, held to little memory, and with an S3
//! service for a store.
//!
//! `ARTIFACT_POINTS` = how often a server is killed (6), `CRASH_SEED` = at which instants;
//! `ARTIFACT_MIB` = the size of what must pass through little memory (300), `ARTIFACT_GROUP` = a
//! control group that the server runs in, with the limit that it has.

#![expect(clippy::unwrap_used, reason = "a story that cannot go on has failed")]
#![expect(clippy::print_stdout, reason = "whoever reads a failure needs the seed and the points")]

mod kills;
mod memory;
mod s3;
mod stage;
