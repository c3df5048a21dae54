//! How values stand in a verdict: as people write them, never in Rust's debug form.

use core::fmt;

/// A number that may be missing: `nothing` then. `{:#x}` and the like apply to the number.
pub struct Maybe(pub Option<u64>);

impl fmt::Display for Maybe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(n) => fmt::Display::fmt(&n, f),
            None => f.write_str("nothing"),
        }
    }
}

impl fmt::LowerHex for Maybe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(n) => fmt::LowerHex::fmt(&n, f),
            None => f.write_str("nothing"),
        }
    }
}

/// Numbers with commas between them; `nothing` for none.
pub struct List<'a>(pub &'a [u64]);

impl fmt::LowerHex for List<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some((first, rest)) = self.0.split_first() else {
            return f.write_str("nothing");
        };
        fmt::LowerHex::fmt(first, f)?;
        rest.iter().try_for_each(|n| {
            f.write_str(", ")?;
            fmt::LowerHex::fmt(n, f)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::format;

    #[test]
    fn numbers_lists_and_nothing() {
        let text = format!(
            "{} {:#x} {:#x}",
            Maybe(Some(12)),
            Maybe(Some(12)),
            Maybe(None)
        );
        assert_eq!(text, "12 0xc nothing");
        assert_eq!(
            format!("{:#x}; {:#x}", List(&[1, 255]), List(&[])),
            "0x1, 0xff; nothing"
        );
    }
}
