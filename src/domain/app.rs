//! How a mini program gets its access token.

/// Which of WeChat's two token endpoints an app uses (docs/WECHAT.md#the-two-token-endpoints). Their tokens are isolated: one never
/// invalidates the other.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum TokenApi {
    /// `stable_token`: repeated calls give the same token until its last five minutes.
    #[default]
    Stable,
    /// `token`: each call replaces the token, the older one dies within five minutes.
    Classic,
}

impl TokenApi {
    /// The spelling of the `token_api` column.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Stable => "stable",
            Self::Classic => "classic",
        }
    }

    /// Reads the column. An unknown word means stable, the choice that can hurt no other user of the app.
    pub fn parse(word: &str) -> Self {
        if word.trim().eq_ignore_ascii_case("classic") { Self::Classic } else { Self::Stable }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_word_classic_means_classic() {
        assert_eq!(TokenApi::parse(" Classic "), TokenApi::Classic);
        assert_eq!(TokenApi::parse("stable"), TokenApi::Stable);
        assert_eq!(TokenApi::parse("clasic"), TokenApi::Stable);
    }
}
