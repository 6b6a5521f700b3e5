//! How long an access token works: the rules of both token interfaces, pure (docs/WECHAT.md#lifetime-of-a-token).
//!
//! An app has one issuer per interface, and they know nothing of each other. An issuer remembers two tokens, the
//! current one and the one before: that is the platform's "old and new both work for five minutes", and it is
//! why two forced fetches in a row kill a leaked token at once.

use fastrand::Rng;
use serde::{Deserialize, Serialize};

use crate::errcode::{DAILY_QUOTA, INVALID_CREDENTIAL, Refusal, TOKEN_EXPIRED};

/// A forced fetch sooner than this after the last one returns the token unchanged.
const FORCED_SPACING_MS: u64 = 30_000;
/// Forced fetches an app may make in a day.
const FORCED_PER_DAY: u32 = 20;
const DAY_MS: u64 = 86_400_000;
/// Real tokens are about this long today; the documentation asks for room for 512.
const TOKEN_CHARS: usize = 136;

/// The token interface a fetch went to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    Stable,
    Classic,
}

/// The two durations that rule a token's life.
#[derive(Clone, Copy, Debug)]
pub struct Lifetime {
    /// From issue to expiry; WeChat's is 7,200 s.
    pub valid_ms: u64,
    /// How long a replaced token still works, and how early a stable one is rotated; WeChat's is 300 s.
    pub overlap_ms: u64,
}

/// What a fetch hands out.
#[derive(Debug, PartialEq, Eq)]
pub struct Fetched {
    pub token: String,
    /// What `expires_in` says.
    pub expires_in_seconds: u64,
    /// The token that fell out of memory, if the fetch made a new one.
    pub forgotten: Option<String>,
}

/// The tokens of one app from one interface.
#[derive(Debug, Default)]
pub struct Issuer {
    current: Option<Issued>,
    previous: Option<Issued>,
    last_forced_ms: Option<u64>,
    forced_day: u64,
    forced_today: u32,
}

#[derive(Debug)]
struct Issued {
    token: String,
    works_until_ms: u64,
    /// Replaced or invalidated, rather than left to expire: decides between 40001 and 42001.
    replaced: bool,
}

impl Issuer {
    /// Classic interface: every fetch makes a new token.
    pub fn fetch_classic(&mut self, now_ms: u64, lifetime: Lifetime, rng: &mut Rng) -> Fetched {
        let forgotten = self.replace(now_ms, lifetime, rng);
        self.hand_out(now_ms, forgotten)
    }

    /// Stable interface, normal mode: the same token until the last minutes of its life.
    pub fn fetch_stable(&mut self, now_ms: u64, lifetime: Lifetime, rng: &mut Rng) -> Fetched {
        let fresh = self.current.as_ref().is_some_and(|it| it.works_until_ms > now_ms + lifetime.overlap_ms);
        let forgotten = if fresh { None } else { self.replace(now_ms, lifetime, rng) };
        self.hand_out(now_ms, forgotten)
    }

    /// Stable interface, forced mode: a new token, but not more often than the platform allows.
    ///
    /// # Errors
    /// 45009 after the day's forced fetches are used up.
    pub fn fetch_forced(
        &mut self,
        now_ms: u64,
        lifetime: Lifetime,
        rng: &mut Rng,
    ) -> Result<Fetched, Refusal> {
        if self.last_forced_ms.is_some_and(|last| now_ms < last + FORCED_SPACING_MS) {
            return Ok(self.fetch_stable(now_ms, lifetime, rng));
        }
        self.count_forced(now_ms)?;
        let forgotten = self.replace(now_ms, lifetime, rng);
        Ok(self.hand_out(now_ms, forgotten))
    }

    /// Whether a token of this issuer may be used now.
    ///
    /// # Errors
    /// 42001 when its time is over, 40001 when it was replaced, invalidated or is not known.
    pub fn check(&self, token: &str, now_ms: u64) -> Result<(), Refusal> {
        let known = [&self.current, &self.previous].into_iter().flatten().find(|it| it.token == token);
        match known {
            Some(issued) if now_ms < issued.works_until_ms => Ok(()),
            Some(issued) if !issued.replaced => Err(Refusal::of(TOKEN_EXPIRED)),
            _ => Err(Refusal::of(INVALID_CREDENTIAL)),
        }
    }

    /// Ends every token at once, as a leak report or a changed secret would.
    pub fn invalidate(&mut self) {
        for issued in [&mut self.current, &mut self.previous].into_iter().flatten() {
            issued.works_until_ms = 0;
            issued.replaced = true;
        }
    }

    /// Makes a new current token and returns the one forgotten for it.
    pub fn replace(&mut self, now_ms: u64, lifetime: Lifetime, rng: &mut Rng) -> Option<String> {
        let fresh = Issued { token: mint(rng), works_until_ms: now_ms + lifetime.valid_ms, replaced: false };
        let mut outgoing = self.current.replace(fresh);
        if let Some(issued) = outgoing.as_mut().filter(|it| now_ms < it.works_until_ms) {
            issued.works_until_ms = now_ms + lifetime.overlap_ms;
            issued.replaced = true;
        }
        std::mem::replace(&mut self.previous, outgoing).map(|issued| issued.token)
    }

    /// The current token, if there ever was one.
    pub fn current(&self) -> Option<&str> {
        self.current.as_ref().map(|issued| issued.token.as_str())
    }

    fn hand_out(&self, now_ms: u64, forgotten: Option<String>) -> Fetched {
        let (token, left_ms) = self
            .current
            .as_ref()
            .map_or_else(Default::default, |it| (it.token.clone(), it.works_until_ms.saturating_sub(now_ms)));
        Fetched { token, expires_in_seconds: left_ms / 1_000, forgotten }
    }

    fn count_forced(&mut self, now_ms: u64) -> Result<(), Refusal> {
        let day = now_ms / DAY_MS;
        if day != self.forced_day {
            self.forced_day = day;
            self.forced_today = 0;
        }
        if self.forced_today >= FORCED_PER_DAY {
            return Err(Refusal::of(DAILY_QUOTA));
        }
        self.forced_today += 1;
        self.last_forced_ms = Some(now_ms);
        Ok(())
    }
}

/// Whether a string could be a token at all; if not, WeChat answers 40014 instead of 40001.
pub fn well_formed(token: &str) -> bool {
    token.len() == TOKEN_CHARS
        && token.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-".contains(&byte))
}

fn mint(rng: &mut Rng) -> String {
    let mut token = String::with_capacity(TOKEN_CHARS);
    token.push_str("87_");
    token.extend(std::iter::repeat_with(|| rng.alphanumeric()).take(TOKEN_CHARS - token.len()));
    token
}

#[cfg(test)]
mod tests {
    use super::*;

    const WECHAT: Lifetime = Lifetime { valid_ms: 7_200_000, overlap_ms: 300_000 };
    const NOON: u64 = 20_000 * DAY_MS;

    fn rng() -> Rng {
        Rng::with_seed(7)
    }

    #[test]
    fn stable_repeats_its_token_with_what_is_left_of_its_life() {
        let (mut issuer, mut rng) = (Issuer::default(), rng());
        let first = issuer.fetch_stable(NOON, WECHAT, &mut rng);
        let later = issuer.fetch_stable(NOON + 6_000_000, WECHAT, &mut rng);
        assert_eq!(first.expires_in_seconds, 7_200);
        assert_eq!((later.token, later.expires_in_seconds), (first.token, 1_200));
    }

    #[test]
    fn stable_rotates_in_the_last_five_minutes_and_lets_both_work() {
        let (mut issuer, mut rng) = (Issuer::default(), rng());
        let old = issuer.fetch_stable(NOON, WECHAT, &mut rng).token;
        let rotated = NOON + 6_900_000;
        let new = issuer.fetch_stable(rotated, WECHAT, &mut rng);
        assert_ne!(old, new.token);
        assert_eq!(new.expires_in_seconds, 7_200);
        assert_eq!(issuer.check(&old, rotated + 299_999), Ok(()));
        assert_eq!(issuer.check(&old, rotated + 300_000), Err(Refusal::of(INVALID_CREDENTIAL)));
        assert_eq!(issuer.check(&new.token, rotated + 300_000), Ok(()));
    }

    #[test]
    fn classic_replaces_with_every_fetch_and_keeps_only_one_predecessor() {
        let (mut issuer, mut rng) = (Issuer::default(), rng());
        let first = issuer.fetch_classic(NOON, WECHAT, &mut rng);
        let second = issuer.fetch_classic(NOON + 1, WECHAT, &mut rng);
        assert_ne!(first.token, second.token);
        assert_eq!(issuer.check(&first.token, NOON + 2), Ok(()));
        let third = issuer.fetch_classic(NOON + 3, WECHAT, &mut rng);
        assert_eq!(third.forgotten.as_ref(), Some(&first.token));
        assert_eq!(issuer.check(&first.token, NOON + 4), Err(Refusal::of(INVALID_CREDENTIAL)));
        assert_eq!(issuer.check(&second.token, NOON + 4), Ok(()));
    }

    #[test]
    fn a_token_nobody_replaced_expires_with_42001() {
        let (mut issuer, mut rng) = (Issuer::default(), rng());
        let token = issuer.fetch_classic(NOON, WECHAT, &mut rng).token;
        assert_eq!(issuer.check(&token, NOON + 7_199_999), Ok(()));
        assert_eq!(issuer.check(&token, NOON + 7_200_000), Err(Refusal::of(TOKEN_EXPIRED)));
    }

    #[test]
    fn a_forced_fetch_refreshes_once_in_thirty_seconds_and_twenty_times_a_day() {
        let (mut issuer, mut rng) = (Issuer::default(), rng());
        let first = issuer.fetch_forced(NOON, WECHAT, &mut rng).unwrap();
        let too_soon = issuer.fetch_forced(NOON + 29_999, WECHAT, &mut rng).unwrap();
        assert_eq!(too_soon.token, first.token);
        for n in 1..20 {
            issuer.fetch_forced(NOON + n * 30_000, WECHAT, &mut rng).unwrap();
        }
        let refused = issuer.fetch_forced(NOON + 20 * 30_000, WECHAT, &mut rng);
        assert_eq!(refused, Err(Refusal::of(DAILY_QUOTA)));
        assert!(issuer.fetch_forced(NOON + DAY_MS, WECHAT, &mut rng).is_ok());
    }

    #[test]
    fn an_invalidated_token_stops_at_once_and_the_next_fetch_is_new() {
        let (mut issuer, mut rng) = (Issuer::default(), rng());
        let token = issuer.fetch_stable(NOON, WECHAT, &mut rng).token;
        issuer.invalidate();
        assert_eq!(issuer.check(&token, NOON), Err(Refusal::of(INVALID_CREDENTIAL)));
        assert_ne!(issuer.fetch_stable(NOON, WECHAT, &mut rng).token, token);
    }

    #[test]
    fn minted_tokens_look_like_tokens() {
        assert!(well_formed(&mint(&mut rng())));
        assert!(!well_formed("ACCESS_TOKEN"));
    }
}
