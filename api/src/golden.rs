//! Golden files of this crate's tests: `UPDATE=1 cargo test -p api` rewrites them.

/// Compares with the golden file of this name, or writes it.
pub(crate) fn check(name: &str, printed: &str) {
    let file = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("golden").join(name);
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&file, printed).unwrap();
    }
    let golden = std::fs::read_to_string(&file).unwrap_or_default();
    assert!(
        golden == printed,
        "{name} differs from the code; run with UPDATE=1 and read the diff:\n{printed}"
    );
}
