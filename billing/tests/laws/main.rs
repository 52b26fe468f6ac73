//! The laws of billing, on made-up usage. Knows no storage.

mod credit;
mod given;
mod journal;
mod pricing;
mod statements;
mod windows;
