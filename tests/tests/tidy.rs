//! What is the same in every file: length, a header, no test that is switched off, nothing half done,
//! nothing of the machine it was written on.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// Files longer than this are split by noun.
const MAX_LINES: usize = 500;
/// Folders that are made, not written.
const MADE: [&str; 5] = ["target", "node_modules", "venv", "__pycache__", "crownest-data"];
/// What is no text, or not written by hand.
const SKIPPED: [&str; 5] =
    ["Cargo.lock", "openapi.yaml", "openapi.admin.yaml", "tidy.rs", ".gitignore"];

/// Words that no Rust file may hold, and why.
const IN_RUST: [(&str, &str); 7] = [
    ("#[ignore", "a test that does not run protects nothing"),
    ("#[should_panic", "it passes for whatever panics"),
    ("todo!(", "it is not done"),
    ("unimplemented!(", "it is not done"),
    ("dbg!(", "it prints"),
    ("#[allow(", "use #[expect(.., reason)], which tells when it is not needed any more"),
    ("FIXME", "it is not done"),
];

/// Beginnings of paths that only one machine has.
const MACHINE: [&str; 4] = ["/work/", "/root/", "/home/runner/", "/Users/"];

/// Hosts of package registries: where packages come from is the machine's business.
const REGISTRIES: [&str; 5] = [
    "index.crates.io",
    "static.crates.io",
    "files.pythonhosted.org",
    "registry.npmjs.org",
    "proxy.golang.org",
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Every file of the project, but for hidden and made folders.
fn files() -> Vec<PathBuf> {
    let (mut files, mut folders) = (Vec::new(), vec![root()]);
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("the folder is readable") {
            let entry = entry.expect("the folder is readable");
            let name = entry.file_name().to_string_lossy().into_owned();
            let (path, kind) = (entry.path(), entry.file_type().expect("the entry is readable"));
            let hidden = name.starts_with('.') && name != ".ci";
            if kind.is_dir() && !hidden && !MADE.contains(&name.as_str()) {
                folders.push(path);
            } else if kind.is_file() && !SKIPPED.contains(&name.as_str()) {
                files.push(path);
            }
        }
    }
    assert!(files.len() > 100, "the files of the project are found");
    files.sort();
    files
}

/// The texts of the files that `wanted` holds for, with their names from the root.
fn texts(wanted: impl Fn(&Path) -> bool) -> impl Iterator<Item = (String, String)> {
    let root = root();
    files().into_iter().filter(move |path| wanted(path)).filter_map(move |path| {
        let name =
            path.strip_prefix(&root).expect("the file lies below the root").display().to_string();
        // What is not UTF-8 was not written by hand.
        Some((name, fs::read_to_string(&path).ok()?))
    })
}

fn is_rust(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "rs")
}

/// Fails with every finding at once.
fn check(findings: Vec<String>) {
    assert!(findings.is_empty(), "\n{}", findings.join("\n"));
}

#[test]
fn every_rust_file_says_what_it_is_for() {
    let without = texts(is_rust).filter(|(_, text)| !text.starts_with("//! "));
    check(without.map(|(name, _)| format!("{name} does not open with a //! line")).collect());
}

#[test]
fn no_file_is_too_long() {
    let long = texts(is_rust).filter(|(_, text)| text.lines().count() > MAX_LINES);
    check(long.map(|(name, text)| format!("{name} has {} lines", text.lines().count())).collect());
}

#[test]
fn nothing_is_switched_off_or_half_done() {
    let mut findings = Vec::new();
    for (name, text) in texts(is_rust) {
        for (at, line) in text.lines().enumerate() {
            // Comments may speak of them.
            let code = line.split("//").next().unwrap_or_default();
            let found = IN_RUST.iter().filter(|(word, _)| code.contains(word));
            findings.extend(found.map(|(word, why)| format!("{name}:{}: {word}: {why}", at + 1)));
        }
    }
    check(findings);
}

#[test]
fn nothing_is_of_one_machine() {
    let mut findings = Vec::new();
    for (name, text) in texts(|_| true) {
        for (at, line) in text.lines().enumerate() {
            let paths = MACHINE.iter().filter(|path| begins_a_path(line, path));
            let hosts = REGISTRIES.iter().filter(|host| line.contains(*host));
            findings.extend(paths.chain(hosts).map(|word| format!("{name}:{}: {word}", at + 1)));
        }
    }
    check(findings);
}

/// Whether a path begins so in a line: not `api/src/work/`, where it is in the middle of one.
fn begins_a_path(line: &str, beginning: &str) -> bool {
    line.match_indices(beginning).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        before
            .is_none_or(|c| !c.is_alphanumeric() && !matches!(c, '_' | '-' | '.' | '}' | ')' | '*'))
    })
}

#[test]
fn a_path_begins_where_no_other_one_goes_on() {
    for (line, wanted) in [
        ("cd /work/main", true),
        ("\"/work/main\"", true),
        ("api/src/work/mod.rs", false),
        ("{root}/work/", false),
    ] {
        assert_eq!(begins_a_path(line, "/work/"), wanted, "{line}");
    }
}
