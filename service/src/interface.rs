//! Names of network interfaces.

use std::fmt;

use serde::Deserialize;

/// The name of a network interface, as Linux takes it (`dev_valid_name`, `IFNAMSIZ`).
#[derive(Deserialize, Clone, PartialEq, Eq, Debug)]
#[serde(try_from = "String")]
pub struct Interface(String);

impl Interface {
    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Interface {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for Interface {
    type Error = String;
    fn try_from(text: String) -> Result<Interface, String> {
        let bad = |byte: u8| !byte.is_ascii_graphic() || b"/:%".contains(&byte);
        let length = (1..=15).contains(&text.len());
        if !length || text.bytes().any(bad) || [".", ".."].contains(&text.as_str()) {
            return Err(format!(
                "{text:?} is no name of a network interface: 1 to 15 characters, without space, \
                 slash, colon or percent sign"
            ));
        }
        Ok(Interface(text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_that_linux_takes() {
        for name in ["eth0", "fifteen-letters", "a.b"] {
            assert_eq!(Interface::try_from(name.to_owned()).unwrap().as_str(), name);
        }
        for name in ["", ".", "..", "sixteen-letters!", "a/b", "a:b", "a%d", "a b", "a\0"] {
            assert!(Interface::try_from(name.to_owned()).is_err(), "{name:?}");
        }
    }
}
