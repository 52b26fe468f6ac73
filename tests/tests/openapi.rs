//! Holds `openapi.yaml` and `openapi.admin.yaml` equal to the code: `UPDATE=1 cargo test -p tests --test
//! openapi` rewrites them. What the documents must say is tested beside the code that makes them.

use std::path::Path;

use api::http::openapi::{ADMIN, Document, PUBLIC};

fn check(name: &str, document: &Document) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(name);
    let described = document.yaml();
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&path, &described).expect("the document is writable");
    }
    let kept = std::fs::read_to_string(&path).unwrap_or_default();
    let differs = kept.lines().zip(described.lines()).position(|(kept, ours)| kept != ours);
    assert!(
        kept == described,
        "{name} differs from the code, first at line {}; run with UPDATE=1 and read the diff",
        differs.unwrap_or_else(|| kept.lines().count().min(described.lines().count())) + 1,
    );
}

#[test]
fn the_file_is_what_the_code_describes() {
    check("openapi.yaml", &PUBLIC);
}

#[test]
fn the_admin_file_is_what_the_code_describes() {
    check("openapi.admin.yaml", &ADMIN);
}
