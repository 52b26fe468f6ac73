//! `crownest serve` as processes, for stories in which servers die and for measurements: an installation, its
//! servers one after the other, and clients that do not give up. What a story wants to happen meanwhile is its
//! own, and so is what must hold afterwards.

mod client;
mod fitness;
mod installation;
mod turns;

pub use client::{Answer, Client, Door};
pub use fitness::cannot_run_sandboxes;
pub use installation::{Installation, Server};
pub use turns::Turns;
