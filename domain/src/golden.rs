//! Golden files of this crate's tests: `UPDATE=1 cargo test -p domain` rewrites them.

/// Compares `printed` with `domain/golden/<name>`.
pub(crate) fn check(name: &str, printed: &str) {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("golden").join(name);
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&path, printed).expect("the golden folder is writable");
    }
    let wanted = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        wanted == printed,
        "{name} differs from the code; run with UPDATE=1 and read the diff:\n{printed}"
    );
}
