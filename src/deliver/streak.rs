//! Is WeChat away for an app, or is it only this delivery? An app's answers in a row tell.

use std::time::Duration;

use tokio::time::Instant;

/// Different users who must have been met by trouble, with nothing good in between, before it counts as the app's. One user
/// alone may be trouble himself.
const USERS: usize = 5;
/// Answers in a row, none of them good, before the app is paused.
const ANSWERS: u32 = 20;
/// …and for so long. Shorter would pause an app for a hiccup that a retry rides out.
const LASTS: Duration = Duration::from_secs(10);

/// What the answers in a row say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Nothing points at the app.
    Fine,
    /// Nobody of several users could be reached since the last good answer: no delivery is to blame.
    Suspect,
    /// And so for a while: do not ask in vain.
    Away,
}

/// The answers since the last good one.
#[derive(Debug, Default)]
pub(super) struct Streak {
    began: Option<Instant>,
    answers: u32,
    /// Hashes of the first users met; never more than [`USERS`].
    users: Vec<u64>,
}

impl Streak {
    /// WeChat answered, whatever it said.
    pub(super) fn good(&mut self) {
        *self = Self::default();
    }

    /// Trouble with a delivery to this user.
    pub(super) fn trouble(&mut self, user: u64, now: Instant) -> Verdict {
        let began = *self.began.get_or_insert(now);
        self.answers = self.answers.saturating_add(1);
        if self.users.len() < USERS && !self.users.contains(&user) {
            self.users.push(user);
        }
        match self.users.len() {
            USERS if self.answers >= ANSWERS && now - began >= LASTS => Verdict::Away,
            USERS => Verdict::Suspect,
            _ => Verdict::Fine,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(streak: &mut Streak, answers: u64, users: u64, now: Instant) -> Verdict {
        (0..answers).map(|n| streak.trouble(n % users, now)).last().unwrap_or(Verdict::Fine)
    }

    #[test]
    fn one_users_trouble_is_not_the_apps() {
        let begun = Instant::now();
        assert_eq!(after(&mut Streak::default(), 1_000, 4, begun), Verdict::Fine);
    }

    #[test]
    fn trouble_with_everybody_is_suspected_at_once_and_believed_after_a_while() {
        let (mut streak, begun) = (Streak::default(), Instant::now());
        assert_eq!(after(&mut streak, 19, 5, begun), Verdict::Suspect);
        assert_eq!(after(&mut streak, 1, 5, begun + LASTS / 2), Verdict::Suspect);
        assert_eq!(after(&mut streak, 1, 5, begun + LASTS), Verdict::Away);
        streak.good();
        assert_eq!(after(&mut streak, 4, 5, begun + LASTS * 2), Verdict::Fine);
    }
}
