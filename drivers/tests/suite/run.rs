//! How a test runs: it waits for what no event tells, and says so where it cannot run. Nothing about drivers.

use std::{env, fs, io::Write as _, thread, time::Duration};

/// Waits for something that no event tells.
pub fn wait_until(is_so: impl Fn() -> bool, what: &str) {
    for _ in 0..2_000 {
        if is_so() {
            return;
        }
        thread::sleep(Duration::from_millis(5));
    }
    panic!("in vain: {what}");
}

/// The file that the script which runs all tests sums up, from what could not run here.
pub const SKIPS: &str = "TEST_SKIPS_FILE";

/// Says what did not run, to whoever reads the output and to the script that sums up.
#[expect(clippy::print_stdout, reason = "a skip must be seen")]
pub fn skipped(name: &str, reason: &str) {
    println!("SKIPPED {name}: {reason}");
    let Some(file) = env::var_os(SKIPS) else { return };
    let mut file = fs::File::options().append(true).create(true).open(file).expect("the file");
    file.write_all(format!("{name}\t{reason}\n").as_bytes()).expect("a line more");
}
