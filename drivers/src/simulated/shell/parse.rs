//! Turns a command line into steps. Knows quotes, variables, redirections and the four ways to join
//! commands; refuses the rest of the shell language rather than misreading it.

/// A command and when it runs.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Step {
    pub when: When,
    pub words: Vec<Word>,
    pub redirects: Vec<Redirect>,
}

/// The condition of a step, on the one before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum When {
    Always,
    Succeeded,
    Failed,
}

/// A word: pieces that are joined when it is used.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct Word {
    pub parts: Vec<Part>,
    /// A quoted word is a word even when it is empty.
    pub quoted: bool,
}

/// A piece of a word.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Part {
    Text(String),
    Variable(String),
}

/// Where one of a command's two streams goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Redirect {
    /// 1 or 2.
    pub fd: u8,
    pub to: To,
}

/// The target of a redirection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum To {
    Fd(u8),
    File(Word),
    EndOfFile(Word),
}

/// Parses a command line; the error is for the command's stderr.
pub(super) fn parse(line: &str) -> Result<Vec<Step>, String> {
    Parser { rest: line.chars().peekable(), steps: Vec::new(), when: When::Always }.run()
}

struct Parser<'a> {
    rest: std::iter::Peekable<std::str::Chars<'a>>,
    steps: Vec<Step>,
    when: When,
}

impl Parser<'_> {
    fn run(mut self) -> Result<Vec<Step>, String> {
        let mut step = self.new_step();
        while let Some(&next) = self.rest.peek() {
            match next {
                ' ' | '\t' => drop(self.rest.next()),
                '#' => while self.rest.next_if(|c| *c != '\n').is_some() {},
                ';' | '\n' => {
                    self.rest.next();
                    self.end(step, When::Always);
                    step = self.new_step();
                }
                '&' | '|' => {
                    let when = self.condition()?;
                    if step.words.is_empty() {
                        return Err(format!("syntax error near `{next}`"));
                    }
                    self.end(step, when);
                    step = self.new_step();
                }
                '>' => step.redirects.push(self.redirect(1)?),
                '<' | '(' | ')' | '`' => {
                    return Err(format!("`{next}` is beyond the simulated shell"));
                }
                _ => {
                    let word = self.word()?;
                    match (fd_of(&word), self.rest.peek()) {
                        (Some(fd), Some('>')) => step.redirects.push(self.redirect(fd)?),
                        _ => step.words.push(word),
                    }
                }
            }
        }
        self.end(step, When::Always);
        Ok(self.steps)
    }

    fn new_step(&self) -> Step {
        Step { when: self.when, words: Vec::new(), redirects: Vec::new() }
    }

    /// Adds a step unless it is empty; `next` is the condition of the one after it.
    fn end(&mut self, step: Step, next: When) {
        if !step.words.is_empty() || !step.redirects.is_empty() {
            self.steps.push(step);
            self.when = next;
        }
    }

    fn condition(&mut self) -> Result<When, String> {
        let first = self.rest.next();
        let second = self.rest.next_if(|c| Some(*c) == first);
        match (first, second) {
            (Some('&'), Some(_)) => Ok(When::Succeeded),
            (Some('|'), Some(_)) => Ok(When::Failed),
            _ => Err("pipes and background jobs are beyond the simulated shell".to_owned()),
        }
    }

    fn redirect(&mut self, fd: u8) -> Result<Redirect, String> {
        self.rest.next();
        if self.rest.next_if_eq(&'&').is_some() {
            return match self.rest.next() {
                Some('1') => Ok(Redirect { fd, to: To::Fd(1) }),
                Some('2') => Ok(Redirect { fd, to: To::Fd(2) }),
                _ => Err("syntax error: bad fd".to_owned()),
            };
        }
        let extend = self.rest.next_if_eq(&'>').is_some();
        while self.rest.next_if(|c| matches!(c, ' ' | '\t')).is_some() {}
        let word = self.word()?;
        if word.parts.is_empty() && !word.quoted {
            return Err("syntax error: nowhere to redirect to".to_owned());
        }
        Ok(Redirect { fd, to: if extend { To::EndOfFile(word) } else { To::File(word) } })
    }

    fn word(&mut self) -> Result<Word, String> {
        let mut word = Word::default();
        while let Some(c) = self.rest.next_if(|c| !is_delimiter(*c)) {
            match c {
                '\'' => {
                    word.quoted = true;
                    let text = self.until_quote()?;
                    word.push_text(&text);
                }
                '"' => {
                    word.quoted = true;
                    self.double_quoted(&mut word)?;
                }
                '$' => self.variable(&mut word)?,
                '\\' => match self.rest.next() {
                    Some('\n') | None => {}
                    Some(escaped) => {
                        word.quoted = true;
                        word.push(escaped);
                    }
                },
                c => word.push(c),
            }
        }
        Ok(word)
    }

    fn until_quote(&mut self) -> Result<String, String> {
        let mut text = String::new();
        loop {
            match self.rest.next() {
                Some('\'') => return Ok(text),
                Some(c) => text.push(c),
                None => return Err("syntax error: unterminated quoted string".to_owned()),
            }
        }
    }

    fn double_quoted(&mut self, word: &mut Word) -> Result<(), String> {
        loop {
            match self.rest.next() {
                Some('"') => return Ok(()),
                Some('$') => self.variable(word)?,
                Some('`') => return Err("`` ` `` is beyond the simulated shell".to_owned()),
                Some('\\') => match self.rest.next() {
                    Some(c @ ('"' | '\\' | '$' | '`')) => word.push(c),
                    Some('\n') => {}
                    Some(c) => {
                        word.push('\\');
                        word.push(c);
                    }
                    None => return Err("syntax error: unterminated quoted string".to_owned()),
                },
                Some(c) => word.push(c),
                None => return Err("syntax error: unterminated quoted string".to_owned()),
            }
        }
    }

    fn variable(&mut self, word: &mut Word) -> Result<(), String> {
        let braced = self.rest.next_if_eq(&'{').is_some();
        let mut name = String::new();
        if let Some(special) = self.rest.next_if(|c| matches!(c, '?' | '$')) {
            name.push(special);
        } else {
            while let Some(c) = self.rest.next_if(|c| c.is_ascii_alphanumeric() || *c == '_') {
                name.push(c);
            }
        }
        if braced && (name.is_empty() || self.rest.next_if_eq(&'}').is_none()) {
            return Err("bad substitution".to_owned());
        }
        if self.rest.peek() == Some(&'(') && name.is_empty() {
            return Err("`$(` is beyond the simulated shell".to_owned());
        }
        if name.is_empty() {
            word.push('$');
        } else {
            word.parts.push(Part::Variable(name));
        }
        Ok(())
    }
}

impl Word {
    fn push(&mut self, c: char) {
        self.push_text(c.encode_utf8(&mut [0; 4]));
    }

    fn push_text(&mut self, text: &str) {
        match self.parts.last_mut() {
            Some(Part::Text(last)) => last.push_str(text),
            Some(Part::Variable(_)) | None => self.parts.push(Part::Text(text.to_owned())),
        }
    }
}

fn is_delimiter(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\n' | ';' | '&' | '|' | '<' | '>' | '(' | ')' | '`')
}

/// The file descriptor that a word right before `>` means.
fn fd_of(word: &Word) -> Option<u8> {
    match (word.quoted, word.parts.as_slice()) {
        (false, [Part::Text(text)]) if text == "1" => Some(1),
        (false, [Part::Text(text)]) if text == "2" => Some(2),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Prints steps in a form that a table can hold.
    fn shown(line: &str) -> String {
        let word = |word: &Word| {
            let part = |part: &Part| match part {
                Part::Text(text) => text.clone(),
                Part::Variable(name) => format!("<{name}>"),
            };
            word.parts.iter().map(part).collect::<String>()
        };
        let redirect = |redirect: &Redirect| match &redirect.to {
            To::Fd(fd) => format!("{}>&{fd}", redirect.fd),
            To::File(file) => format!("{}>{}", redirect.fd, word(file)),
            To::EndOfFile(file) => format!("{}>>{}", redirect.fd, word(file)),
        };
        let step = |step: &Step| {
            let mut shown: Vec<_> = step.words.iter().map(word).collect();
            shown.extend(step.redirects.iter().map(redirect));
            format!("{:?}[{}]", step.when, shown.join("|"))
        };
        match parse(line) {
            Ok(steps) => steps.iter().map(step).collect::<Vec<_>>().join(" "),
            Err(error) => error,
        }
    }

    #[test]
    fn a_line_becomes_steps() {
        for (line, wanted) in [
            ("", ""),
            ("# nothing", ""),
            ("echo a  b", "Always[echo|a|b]"),
            ("a; b && c || d\ne", "Always[a] Always[b] Succeeded[c] Failed[d] Always[e]"),
            ("echo 'a $b' \"a $b\" a\\ b", "Always[echo|a $b|a <b>|a b]"),
            ("echo ${A}x$?", "Always[echo|<A>x<?>]"),
            ("echo x >&2", "Always[echo|x|1>&2]"),
            ("echo x 2> err >>out", "Always[echo|x|2>err|1>>out]"),
            ("echo '' $", "Always[echo||$]"),
            ("echo 'x", "syntax error: unterminated quoted string"),
            ("&& a", "syntax error near `&`"),
            ("a | b", "pipes and background jobs are beyond the simulated shell"),
            ("echo $(x)", "`$(` is beyond the simulated shell"),
            ("echo x >", "syntax error: nowhere to redirect to"),
        ] {
            assert_eq!(shown(line), wanted, "{line:?}");
        }
    }
}
