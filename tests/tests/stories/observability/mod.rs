//! What operators see: metrics with the right numbers, and events in the traces of the requests that
//! caused them.

mod metrics;
mod traces;
