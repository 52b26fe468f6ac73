//! The W3C trace context's `traceparent`: read as its version 00, of which later versions may say more, and
//! printed as that.

use std::fmt;

/// A position in a trace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Parent {
    /// The trace; never all zero.
    pub trace: [u8; 16],
    /// The span; never all zero.
    pub span: [u8; 8],
    /// Bit 0: whether the trace is sampled.
    pub flags: u8,
}

impl Parent {
    /// Reads a header; `None` for one that is no `traceparent`, which counts as not sent.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split('-');
        let mut next = || parts.next();
        let (version, trace, span, flags) = (next()?, next()?, next()?, next()?);
        let more = parts.next().is_some();
        let [version] = bytes(version)?;
        let parent =
            Self { trace: bytes(trace)?, span: bytes(span)?, flags: bytes::<1>(flags)?[0] };
        let known = version != u8::MAX && (version > 0 || !more);
        let named = parent.trace != [0; 16] && parent.span != [0; 8];
        (known && named).then_some(parent)
    }
}

/// Bytes in lower case hexadecimal, which is the only one.
fn bytes<const N: usize>(text: &str) -> Option<[u8; N]> {
    let mut bytes = [0; N];
    if text.bytes().any(|byte| byte.is_ascii_uppercase()) {
        return None;
    }
    hex::decode_to_slice(text, &mut bytes).ok()?;
    Some(bytes)
}

impl fmt::Display for Parent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (trace, span) = (hex::encode(self.trace), hex::encode(self.span));
        // Of the flags, later versions may give the others a meaning that we do not know.
        write!(f, "00-{trace}-{span}-{:02x}", self.flags & 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
    const SPAN: &str = "b7ad6b7169203331";

    #[test]
    fn what_is_read_is_printed() {
        for flags in ["00", "01"] {
            let text = format!("00-{TRACE}-{SPAN}-{flags}");
            assert_eq!(Parent::parse(&text).unwrap().to_string(), text);
        }
    }

    #[test]
    fn a_later_version_is_read_as_the_first() {
        let printed = |text: String| Parent::parse(&text).map(|parent| parent.to_string());
        let wanted = Some(format!("00-{TRACE}-{SPAN}-01"));
        assert_eq!(printed(format!("cc-{TRACE}-{SPAN}-03")), wanted);
        assert_eq!(printed(format!("cc-{TRACE}-{SPAN}-01-what-else")), wanted);
    }

    #[test]
    fn junk_counts_as_not_sent() {
        for (text, why) in [
            (String::new(), "empty"),
            (format!("00-{TRACE}-{SPAN}"), "no flags"),
            (format!("00-{TRACE}-{SPAN}-01-more"), "version 00 has no more"),
            (format!("ff-{TRACE}-{SPAN}-01"), "no such version"),
            (format!("00-{}-{SPAN}-01", TRACE.to_uppercase()), "upper case"),
            (format!("00-{}-{SPAN}-01", "0".repeat(32)), "no trace"),
            (format!("00-{TRACE}-{}-01", "0".repeat(16)), "no span"),
            (format!("00-{TRACE}0-{SPAN}-01"), "too long"),
            (format!("00-{TRACE}-{SPAN}-1"), "short flags"),
            (format!("00-{TRACE}-{SPAN}-0g"), "no hexadecimal"),
            ("\u{fc}-\u{fc}-\u{fc}-\u{fc}".to_owned(), "no ASCII"),
        ] {
            assert_eq!(Parent::parse(&text), None, "{why}: {text}");
        }
    }
}
