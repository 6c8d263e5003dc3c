//! Closed-loop users: when each of them starts and stops.

use std::time::Duration;

/// How many users there are, and when.
#[derive(Clone, Debug, PartialEq)]
pub struct UserCurve {
    /// The parts of the curve in order of time, one for each stage.
    pub pieces: Vec<UserPiece>,
}

/// The users of one stage.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct UserPiece {
    /// Index of the stage in the cell.
    pub stage: usize,
    /// Users just after its start. Where that differs from the end of the stage before, users start or stop at once.
    pub from: u32,
    /// Users at its end.
    pub to: u32,
    /// How it ends; only a timed stage changes its users on the way.
    pub extent: UserExtent,
}

/// How a closed-loop stage ends.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum UserExtent {
    /// After a time.
    For(Duration),
    /// When this many requests, shared by all users, have ended.
    Requests(u64),
    /// When each user has made this many requests and they have ended.
    RequestsPerUser(u64),
    /// After `duration`, but not before this many requests have ended, and at `at_most` in any case: how a level warms up, and
    /// how one without a size of its own runs.
    AtLeast {
        /// The time that it takes at least.
        duration: Duration,
        /// Requests of all users together that end in it at least.
        requests: u64,
        /// The time after which it ends anyhow.
        at_most: Duration,
    },
}

/// What changes at an instant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UserChange {
    /// The user begins.
    Start,
    /// The user sends no further request.
    Stop,
}

impl UserCurve {
    /// The most users at any time.
    pub fn peak(&self) -> u32 {
        self.pieces
            .iter()
            .map(|piece| piece.from.max(piece.to))
            .max()
            .unwrap_or(0)
    }

    /// Users at the end of the piece before this one.
    pub fn users_before(&self, piece: usize) -> u32 {
        piece
            .checked_sub(1)
            .map_or(0, |before| self.pieces[before].to)
    }
}

impl UserPiece {
    /// Requests of the stage, where it is counted.
    pub fn requests(&self) -> Option<u64> {
        match self.extent {
            UserExtent::For(_) | UserExtent::AtLeast { .. } => None,
            UserExtent::Requests(requests) => Some(requests),
            UserExtent::RequestsPerUser(each) => Some(each * u64::from(self.to)),
        }
    }

    /// When `user` (from 0) changes during the piece, counted from its start; `before` is the number of users until then.
    /// Users stop in the reverse order of their start.
    ///
    /// The instants are those of k6 (`ramping_vus.go`): going up from c₀ to c₁ in d, the k-th user starts at
    /// `d(k − c₀)/(c₁ − c₀)`; going down, it stops at `d(c₀ − k + 1)/(c₀ − c₁)`.
    pub fn changes(&self, user: u32, before: u32) -> UserChanges {
        let number = user + 1;
        let duration = match self.extent {
            UserExtent::For(duration) | UserExtent::AtLeast { duration, .. } => duration,
            UserExtent::Requests(_) | UserExtent::RequestsPerUser(_) => Duration::ZERO,
        };
        let jump = match (number <= before, number <= self.from) {
            (false, true) => Some(UserChange::Start),
            (true, false) => Some(UserChange::Stop),
            (true, true) | (false, false) => None,
        };
        let on_the_way = if self.from < number && number <= self.to {
            Some((
                UserChange::Start,
                part(duration, number - self.from, self.to - self.from),
            ))
        } else if self.to < number && number <= self.from {
            Some((
                UserChange::Stop,
                part(duration, self.from - number + 1, self.from - self.to),
            ))
        } else {
            None
        };
        UserChanges { jump, on_the_way }
    }
}

/// What one user does in one piece: at most a change at its very start, and one on the way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UserChanges {
    /// At the start of the piece.
    pub jump: Option<UserChange>,
    /// Later, with the time from the start of the piece.
    pub on_the_way: Option<(UserChange, Duration)>,
}

/// `duration · numerator / denominator` in whole nanoseconds.
fn part(duration: Duration, numerator: u32, denominator: u32) -> Duration {
    let ns = duration.as_nanos() * u128::from(numerator) / u128::from(denominator);
    Duration::from_nanos(u64::try_from(ns).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn timed(from: u32, to: u32, seconds: u64) -> UserPiece {
        UserPiece {
            stage: 0,
            from,
            to,
            extent: UserExtent::For(Duration::from_secs(seconds)),
        }
    }

    fn on_the_way(piece: UserPiece, users: u32) -> Vec<Option<(UserChange, u64)>> {
        (0..users)
            .map(|user| {
                piece
                    .changes(user, piece.from)
                    .on_the_way
                    .map(|(change, at)| (change, at.as_secs()))
            })
            .collect()
    }

    #[test]
    fn four_users_in_eight_seconds_start_every_two_seconds() {
        let start = |at| Some((UserChange::Start, at));
        assert_eq!(
            on_the_way(timed(0, 4, 8), 4),
            [start(2), start(4), start(6), start(8)]
        );
    }

    #[test]
    fn the_last_user_to_start_is_the_first_to_stop() {
        let stop = |at| Some((UserChange::Stop, at));
        assert_eq!(
            on_the_way(timed(4, 0, 8), 4),
            [stop(8), stop(6), stop(4), stop(2)]
        );
    }

    #[test]
    fn a_ramp_leaves_the_users_below_it_alone() {
        assert_eq!(
            on_the_way(timed(2, 3, 6), 4),
            [None, None, Some((UserChange::Start, 6)), None]
        );
    }

    #[test]
    fn a_stage_that_begins_with_other_users_changes_them_at_once() {
        let jump = |before, user| timed(8, 8, 10).changes(user, before).jump;
        assert_eq!(jump(4, 3), None);
        assert_eq!(jump(4, 4), Some(UserChange::Start));
        assert_eq!(jump(10, 7), None);
        assert_eq!(jump(10, 8), Some(UserChange::Stop));
    }

    #[test]
    fn a_per_user_count_knows_its_requests() {
        let piece = UserPiece {
            extent: UserExtent::RequestsPerUser(20),
            ..timed(16, 16, 0)
        };
        assert_eq!(piece.requests(), Some(320));
    }
}
