//! What progenitor makes of `openapi.yaml`; `build.rs` has the generation.

include!(concat!(env!("OUT_DIR"), "/client.rs"));
