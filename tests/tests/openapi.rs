//! Holds `openapi.yaml` equal to the code: `UPDATE=1 cargo test -p tests --test openapi` rewrites it.
//! What the document must say is tested beside the code that makes it.

use std::path::Path;

#[test]
fn the_file_is_what_the_code_describes() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../openapi.yaml");
    let described = api::http::openapi::yaml();
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&path, &described).expect("openapi.yaml is writable");
    }
    let kept = std::fs::read_to_string(&path).unwrap_or_default();
    let differs = kept.lines().zip(described.lines()).position(|(kept, ours)| kept != ours);
    assert!(
        kept == described,
        "openapi.yaml differs from the code, first at line {}; run with UPDATE=1 and read the diff",
        differs.unwrap_or_else(|| kept.lines().count().min(described.lines().count())) + 1,
    );
}
