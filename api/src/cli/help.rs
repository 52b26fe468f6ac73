//! The lower half of every command's help: examples, and what its exit codes say. A test in
//! `tests/tests/command_line.rs` reads it all, and parses the examples.

/// The examples, one a line, and the exit codes, as clap prints them below the options.
pub(super) fn with(examples: &[&str], codes: &str) -> String {
    let mut text = String::from("Examples:\n");
    for example in examples {
        text.push_str("    ");
        text.push_str(example);
        text.push('\n');
    }
    text.push_str("\nExit codes:\n");
    for code in codes.lines() {
        text.push_str("    ");
        text.push_str(code);
        text.push('\n');
    }
    text.pop();
    text
}

/// Of commands that need no server and find nothing.
pub(super) const PLAIN: &str = "\
0  done
2  an argument makes no sense
3  it could not be done";

/// Of commands that work on the database.
pub(super) const OPERATOR: &str = "\
0  done
2  an argument makes no sense or was refused
3  it could not be done: configuration, database";

/// Of commands that make something large of the host's, and end in good order when they are interrupted.
pub(super) const BUILD: &str = "\
0    done
2    an argument makes no sense or was refused
3    it could not be done: configuration, database, a package or program is missing
130  interrupted by SIGINT (129 SIGHUP, 143 SIGTERM); what is complete stays";

/// Of commands that check something.
pub(super) const CHECK: &str = "\
0  what was checked is right
1  it is wrong; what is, is printed
2  an argument makes no sense or was refused
3  it could not be done: configuration, database";

/// Of commands that ask an API.
pub(super) const CLIENT: &str = "\
0  done
1  the API refused it; its code is shown, such as not_found
2  an argument makes no sense, or there is no key
3  the API is away or at fault, or a local file cannot be used";

/// Of those that move files, and end in good order when they are interrupted.
pub(super) const TRANSFER: &str = "\
0    done
1    the API refused it; its code is shown, such as file_not_found
2    an argument makes no sense, or there is no key
3    the API is away or at fault, or a local file cannot be used
130  interrupted by SIGINT (129 SIGHUP, 143 SIGTERM); nothing half done is left";

/// Of what runs a program.
pub(super) const RUN: &str = "\
0-255  the program's own; 127 if the sandbox has no such program
2      an argument makes no sense, or there is no key; nothing was run
124    the program was ended by --timeout
125    crownest itself failed: the API refused something or is away, or a file cannot be read
129    interrupted by SIGHUP; the sandbox is gone (130 SIGINT, 143 SIGTERM)
137    the sandbox ended while the program ran, or somebody canceled the program by force
141    nobody reads the output any more; the sandbox is gone
143    somebody canceled the program";

/// Of commands that hold others.
pub(super) const GROUP: &str = "\
Those of the command; `--help` of each says them.";
