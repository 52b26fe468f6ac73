//! Arguments as one shell command line.

/// Joins arguments so that a POSIX shell takes them apart into the same ones again.
pub(super) fn join(arguments: &[String]) -> String {
    arguments.iter().map(|argument| quoted(argument)).collect::<Vec<_>>().join(" ")
}

fn quoted(argument: &str) -> String {
    // What no shell reads anything into; `=` and `~` it does, at some places.
    let plain = |c: char| c.is_ascii_alphanumeric() || "_-./:@%+,".contains(c);
    if !argument.is_empty() && argument.chars().all(plain) {
        return argument.to_owned();
    }
    format!("'{}'", argument.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn a_shell_reads_the_same_arguments() {
        let hostile = [
            "",
            " ",
            "a b",
            "'",
            "''",
            "it's",
            "\"",
            "$HOME",
            "`id`",
            "\\",
            "a\nb",
            "\t",
            "*",
            "~",
            "-n",
            "é",
            "!!",
            "a=b",
            "#",
            ";",
            "&",
            "|",
            "(",
            "<>",
            "{a,b}",
            "%s",
            "\u{1b}[0m",
        ];
        let arguments: Vec<String> = hostile.iter().map(|text| (*text).to_owned()).collect();
        let line = format!("printf '%s\\0' {}", join(&arguments));
        let printed = Command::new("sh").args(["-c", &line]).output().unwrap().stdout;
        let wanted: String = hostile.iter().map(|text| format!("{text}\0")).collect();
        assert_eq!(String::from_utf8(printed).unwrap(), wanted);
    }

    #[test]
    fn what_needs_no_quotes_has_none() {
        let words = ["python3", "-c", "print(6*7)"].map(str::to_owned);
        assert_eq!(join(&words), "python3 -c 'print(6*7)'");
    }
}
