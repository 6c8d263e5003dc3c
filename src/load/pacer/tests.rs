//! The pacer as a table: time comes in, orders go out.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::*;
use crate::diagnostic::Span;
use crate::plan::{
    ArrivalCurve, Distribution, Extent, OnFull, Planned, Process, RampDown, RampShape, RateForm,
    RatePiece, Schedule, Segment, Stage, UserCurve, UserExtent, UserPiece, load_seed,
};
use crate::units::{Moment, Rate};

fn ms(ms: u64) -> Moment {
    Moment::from_ms(ms)
}

fn duration(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn stage(measured: bool, tail_fill: bool) -> Stage {
    Stage {
        name: String::new(),
        measured,
        users: None,
        rate: None,
        extent: Extent::Requests(0),
        requests: Planned::Unknown,
        expected: Planned::Unknown,
        prompt_offset: 100,
        prompts_reused: false,
        tail_fill,
        span: Span::default(),
    }
}

fn share(schedule: Schedule, stages: &[Stage], workers: u32) -> Arc<SharedPace> {
    let segment = Segment {
        stages: 0..stages.len(),
        schedule,
        cooldown: Duration::ZERO,
    };
    let seed = load_seed(1, "chat", "load", 0);
    SharedPace::of(&segment, stages, seed, 0, ms(1000), workers, false)
}

fn open(rate: f64, seconds: u64, max_in_flight: u32, on_full: OnFull) -> Schedule {
    let rate = Rate::new(rate).unwrap();
    let form = RateForm::Flow {
        from: rate,
        to: rate,
        shape: RampShape::Linear,
        extent: Extent::For(Duration::from_secs(seconds)),
    };
    Schedule::Open {
        curve: ArrivalCurve {
            process: Process::Uniform,
            pieces: vec![RatePiece { stage: 0, form }],
        },
        max_in_flight,
        on_full,
    }
}

fn closed(pieces: &[(u32, u32, UserExtent)]) -> Schedule {
    Schedule::Closed {
        users: UserCurve {
            pieces: pieces
                .iter()
                .enumerate()
                .map(|(stage, &(from, to, extent))| UserPiece {
                    stage,
                    from,
                    to,
                    extent,
                })
                .collect(),
        },
        think: Distribution::Fixed(0.0),
        ramp_down: RampDown::Finish,
    }
}

fn timed(ms: u64) -> UserExtent {
    UserExtent::For(duration(ms))
}

/// What happened to one request: when it was intended and sent, and when it ended; all in milliseconds.
#[derive(Clone, Debug, PartialEq)]
struct Life {
    order: SendOrder,
    sent: u64,
    ended: u64,
    closed: bool,
}

/// Drives the pacers of all threads in virtual time; each request takes `service` milliseconds.
fn drive(shared: &Arc<SharedPace>, service: impl Fn(&SendOrder) -> u64) -> Vec<Life> {
    let mut pacers: Vec<Pacer> = (0..shared.workers).map(|w| shared.pacer(w)).collect();
    let mut flights: Vec<Vec<(u64, SendOrder, u64)>> = vec![Vec::new(); pacers.len()];
    let mut lives = Vec::new();
    let mut now = 0;
    loop {
        let mut next_event = u64::MAX;
        let mut generation = u64::MAX;
        while generation != shared.changed_generation() {
            generation = shared.changed_generation();
            next_event = u64::MAX;
            for (pacer, flight) in pacers.iter_mut().zip(&mut flights) {
                flight.sort_by_key(|(end, order, _)| (*end, order.index));
                while flight.first().is_some_and(|(end, ..)| *end <= now) {
                    let (ended, order, sent) = flight.remove(0);
                    pacer.completed(&order, ms(ended));
                    lives.push(Life {
                        order,
                        sent,
                        ended,
                        closed: false,
                    });
                }
                loop {
                    let pace = pacer.next(ms(now), flight.len());
                    let cut: Vec<_> = match pace {
                        Pace::Send(order) => {
                            flight.push((now + service(&order), order, now));
                            continue;
                        }
                        Pace::Drop(order) => {
                            lives.push(Life {
                                order,
                                sent: now,
                                ended: now,
                                closed: true,
                            });
                            continue;
                        }
                        Pace::Cancel(user) => flight
                            .extract_if(.., |(_, order, _)| order.user == Some(user))
                            .collect(),
                        Pace::CancelRest => std::mem::take(flight),
                        Pace::WaitUntil(moment) => {
                            next_event = next_event.min(moment.ns().div_ceil(1_000_000));
                            break;
                        }
                        Pace::WaitForSlot | Pace::Done => break,
                    };
                    for (_, order, sent) in cut {
                        pacer.completed(&order, ms(now));
                        lives.push(Life {
                            order,
                            sent,
                            ended: now,
                            closed: true,
                        });
                    }
                }
            }
        }
        let next_end = flights.iter().flatten().map(|(end, ..)| *end).min();
        now = match next_event.min(next_end.unwrap_or(u64::MAX)) {
            u64::MAX => break,
            at => at,
        };
    }
    lives.sort_by_key(|life| (life.sent, life.order.user, life.order.index));
    lives
}

fn sends(lives: &[Life]) -> Vec<(u64, Option<u32>, u64)> {
    lives
        .iter()
        .map(|life| (life.sent, life.order.user, life.order.index))
        .collect()
}

/// Stage, began, ended and steady window, in milliseconds.
type Times = (usize, u64, u64, Option<(u64, u64)>);

fn times(shared: &SharedPace, end: u64) -> Vec<Times> {
    let whole = |moment: Moment| moment.ns() / 1_000_000;
    shared
        .stage_times(ms(end))
        .iter()
        .map(|times| {
            let steady = times.steady.map(|(from, to)| (whole(from), whole(to)));
            (times.stage, whole(times.began), whole(times.ended), steady)
        })
        .collect()
}

#[test]
fn arrivals_leave_at_their_time_whatever_the_answers_do() {
    let shared = share(open(2.0, 2, 100, OnFull::Queue), &[stage(true, false)], 1);
    let lives = drive(&shared, |_| 10_000);
    assert_eq!(
        sends(&lives),
        [
            (1250, None, 0),
            (1750, None, 1),
            (2250, None, 2),
            (2750, None, 3)
        ]
    );
    assert!(
        lives
            .iter()
            .all(|life| life.order.intended == ms(life.sent))
    );
    assert_eq!(lives[3].order.prompt, PromptOrdinal::Measured(103));
    assert_eq!(
        times(&shared, 12_750),
        [(0, 1000, 3000, Some((1000, 3000)))]
    );
    assert_eq!(shared.unsent(), []);
}

#[test]
fn a_timed_stage_lasts_its_time_though_nothing_more_arrives() {
    let shared = share(open(1.0, 2, 100, OnFull::Queue), &[stage(true, false)], 1);
    let mut pacer = shared.pacer(0);
    let sent = [1500, 2500].map(|at| matches!(pacer.next(ms(at), 0), Pace::Send(_)));
    assert_eq!(sent, [true, true]);
    assert_eq!(pacer.next(ms(2501), 0), Pace::WaitUntil(ms(3000)));
    assert_eq!(pacer.next(ms(3000), 0), Pace::Done);
    assert_eq!(times(&shared, 3000), [(0, 1000, 3000, Some((1000, 3000)))]);
}

#[test]
fn a_stage_of_so_many_requests_ends_with_the_last_of_them() {
    let form = RateForm::Flow {
        from: Rate::new(2.0).unwrap(),
        to: Rate::new(2.0).unwrap(),
        shape: RampShape::Linear,
        extent: Extent::Requests(4),
    };
    let counted = Schedule::Open {
        curve: ArrivalCurve {
            process: Process::Uniform,
            pieces: vec![RatePiece { stage: 0, form }],
        },
        max_in_flight: 1,
        on_full: OnFull::Queue,
    };
    let shared = share(counted, &[stage(true, false)], 1);
    assert_eq!(shared.arrivals_end(), None);
    shared.find_end();
    let windows = times(&shared, 9000);
    assert_eq!(
        shared.arrivals_end().map(|end| end.ns() / 1_000_000),
        windows.last().map(|(_, _, ended, _)| *ended)
    );
}

#[test]
fn two_threads_send_the_same_arrivals_as_one() {
    let one = drive(
        &share(open(20.0, 2, 100, OnFull::Queue), &[stage(true, false)], 1),
        |_| 5,
    );
    let two = drive(
        &share(open(20.0, 2, 100, OnFull::Queue), &[stage(true, false)], 2),
        |_| 5,
    );
    assert_eq!(one, two);
    assert_eq!(one.len(), 40);
}

#[test]
fn a_full_cap_holds_an_arrival_and_tells_for_how_long() {
    let shared = share(open(10.0, 1, 1, OnFull::Queue), &[stage(true, false)], 1);
    let lives = drive(&shared, |_| 150);
    let waits: Vec<(u64, u64, u128)> = lives
        .iter()
        .take(4)
        .map(|life| {
            let order = life.order;
            (
                order.intended.ns() / 1_000_000,
                life.sent,
                order.cap_wait.as_millis(),
            )
        })
        .collect();
    assert_eq!(
        waits,
        [
            (1050, 1050, 0),
            (1150, 1200, 50),
            (1250, 1350, 100),
            (1350, 1500, 150)
        ]
    );
}

#[test]
fn a_full_cap_drops_when_asked_to() {
    let shared = share(open(10.0, 1, 1, OnFull::Drop), &[stage(true, false)], 1);
    let lives = drive(&shared, |_| 150);
    let dropped: Vec<u64> = lives
        .iter()
        .filter(|life| life.closed)
        .map(|life| life.order.index)
        .collect();
    assert_eq!(dropped, [1, 3, 5, 7, 9]);
}

#[test]
fn the_cap_is_shared_exactly_between_threads() {
    let shared = share(open(100.0, 1, 3, OnFull::Queue), &[stage(true, false)], 8);
    let mut pacers: Vec<Pacer> = (0..8).map(|worker| shared.pacer(worker)).collect();
    let sent: usize = pacers
        .iter_mut()
        .map(|pacer| {
            let mut in_flight = 0;
            while let Pace::Send(_) = pacer.next(ms(3000), in_flight) {
                in_flight += 1;
            }
            in_flight
        })
        .sum();
    assert_eq!(sent, 3);
}

#[test]
fn a_stop_leaves_the_rest_unsent_and_counted() {
    let shared = share(open(10.0, 10, 100, OnFull::Queue), &[stage(true, false)], 1);
    let mut pacer = shared.pacer(0);
    let mut sent = 0;
    while let Pace::Send(_) = pacer.next(ms(2000), 0) {
        sent += 1;
    }
    pacer.stop(ms(2000));
    assert_eq!(pacer.next(ms(9000), 0), Pace::Done);
    assert_eq!((sent, shared.unsent()), (10, vec![(0, 90)]));
    assert_eq!(times(&shared, 9000), [(0, 1000, 2000, Some((1000, 2000)))]);
}

#[test]
fn each_user_sends_again_when_it_has_its_answer() {
    let shared = share(closed(&[(2, 2, timed(100))]), &[stage(true, false)], 1);
    let lives = drive(&shared, |order| if order.user == Some(0) { 40 } else { 60 });
    assert_eq!(
        sends(&lives),
        [
            (1000, Some(0), 0),
            (1000, Some(1), 1),
            (1040, Some(0), 2),
            (1060, Some(1), 3),
            (1080, Some(0), 4),
        ]
    );
    assert_eq!(times(&shared, 1200), [(0, 1000, 1100, Some((1000, 1100)))]);
}

#[test]
fn users_think_between_calls_each_time_the_same_for_a_seed() {
    let mut schedule = closed(&[(1, 1, timed(1000))]);
    if let Schedule::Closed { think, .. } = &mut schedule {
        *think = Distribution::Fixed(0.3);
    }
    let shared = share(schedule, &[stage(true, false)], 1);
    let sent: Vec<u64> = drive(&shared, |_| 100)
        .iter()
        .map(|life| life.sent)
        .collect();
    assert_eq!(sent, [1000, 1400, 1800]);
}

#[test]
fn users_ramp_up_at_the_instants_of_k6() {
    let shared = share(
        closed(&[(0, 4, timed(8000)), (4, 4, timed(10))]),
        &[stage(false, false), stage(true, false)],
        2,
    );
    let starts: Vec<(u64, Option<u32>)> = drive(&shared, |_| 100_000)
        .iter()
        .map(|life| (life.sent, life.order.user))
        .collect();
    assert_eq!(
        starts,
        [
            (3000, Some(0)),
            (5000, Some(1)),
            (7000, Some(2)),
            (9000, Some(3))
        ]
    );
    let reached = times(&shared, 200_000);
    assert_eq!(reached[0], (0, 1000, 9000, Some((1000, 9000))));
    assert_eq!(reached[1], (1, 9000, 9010, Some((9000, 9010))));
}

#[test]
fn the_last_user_leaves_first_and_finishes_its_request() {
    let shared = share(closed(&[(2, 0, timed(200))]), &[stage(true, false)], 1);
    let lives = drive(&shared, |_| 80);
    assert_eq!(
        sends(&lives),
        [
            (1000, Some(0), 0),
            (1000, Some(1), 1),
            (1080, Some(0), 2),
            (1080, Some(1), 3),
            (1160, Some(0), 4),
        ]
    );
    assert!(lives.iter().all(|life| !life.closed));
}

#[test]
fn a_busy_user_is_cut_where_the_ramp_says_so() {
    let mut schedule = closed(&[(2, 0, timed(200))]);
    if let Schedule::Closed { ramp_down, .. } = &mut schedule {
        *ramp_down = RampDown::Cancel;
    }
    let lives = drive(&share(schedule, &[stage(true, false)], 1), |_| 1000);
    let cut: Vec<(Option<u32>, u64)> = lives
        .iter()
        .filter(|life| life.closed)
        .map(|life| (life.order.user, life.ended))
        .collect();
    assert_eq!(cut, [(Some(0), 1200), (Some(1), 1100)]);
}

#[test]
fn a_user_raised_again_before_it_has_left_goes_on() {
    let pieces = [(2, 1, timed(10)), (2, 2, timed(100))];
    let shared = share(
        closed(&pieces),
        &[stage(true, false), stage(true, false)],
        1,
    );
    let lives = drive(&shared, |_| 50);
    assert_eq!(
        sends(&lives),
        [
            (1000, Some(0), 0),
            (1000, Some(1), 1),
            (1050, Some(0), 0),
            (1050, Some(1), 1),
            (1100, Some(0), 2),
            (1100, Some(1), 3),
        ]
    );
}

#[test]
fn a_warm_up_that_reaches_into_a_stage_is_none_of_its_window() {
    let pieces = [(1, 1, timed(100)), (1, 1, UserExtent::Requests(2))];
    let shared = share(
        closed(&pieces),
        &[stage(false, false), stage(true, false)],
        1,
    );
    // The first answer takes until 1900, 800 ms after the stage has begun.
    let lives = drive(&shared, |order| if order.measured { 50 } else { 900 });
    assert_eq!(
        sends(&lives),
        [(1000, Some(0), 0), (1900, Some(0), 0), (1950, Some(0), 1)]
    );
    assert_eq!(times(&shared, 2500)[1], (1, 1100, 2000, Some((1900, 2000))));
}

#[test]
fn a_counted_level_is_filled_until_its_last_request_has_ended() {
    let shared = share(
        closed(&[(2, 2, UserExtent::Requests(3))]),
        &[stage(true, true)],
        2,
    );
    // The third measured request is slow; the other user fills the tail.
    let lives = drive(&shared, |order| if order.index == 2 { 100 } else { 30 });
    let told: Vec<(u64, u64, bool, bool)> = lives
        .iter()
        .map(|life| {
            (
                life.order.index,
                life.sent,
                life.order.measured,
                life.closed,
            )
        })
        .collect();
    assert_eq!(
        told,
        [
            (0, 1000, true, false),
            (1, 1000, true, false),
            (2, 1030, true, false),
            (3, 1030, false, false),
            (4, 1060, false, false),
            (5, 1090, false, false),
            (6, 1120, false, true),
        ]
    );
    assert_eq!(lives[3].order.prompt, PromptOrdinal::Warmup(103));
    assert_eq!(times(&shared, 1130), [(0, 1000, 1130, Some((1000, 1130)))]);
    assert_eq!(shared.unsent(), []);
}

/// Conversations of three turns with 10 ms between them; each request takes 30 ms.
fn converse(schedule: Schedule, stages: &[Stage]) -> (Vec<(u64, u64, u32, bool)>, u64) {
    let segment = Segment {
        stages: 0..stages.len(),
        schedule,
        cooldown: Duration::ZERO,
    };
    let seed = load_seed(1, "chat", "load", 0);
    let shared = SharedPace::of(&segment, stages, seed, 0, ms(1000), 1, true);
    let mut pacer = shared.pacer(0);
    let (mut sent, mut flying, mut refused) = (Vec::new(), Vec::new(), 0);
    for now in 1000..2000 {
        flying.retain(|(ends, order): &(u64, SendOrder)| {
            let over = *ends <= now;
            if over {
                let think = (order.turn < 3).then_some(duration(10));
                let goes_on = pacer.turn_completed(order, ms(now), think);
                refused += u64::from(think.is_some() && !goes_on);
            }
            !over
        });
        while let Pace::Send(order) = pacer.next(ms(now), flying.len()) {
            assert_eq!(order.intended, ms(now));
            sent.push((now, order.index, order.turn, order.measured));
            flying.push((now + 30, order));
        }
    }
    (sent, refused)
}

#[test]
fn a_user_holds_one_conversation_after_another() {
    let (sent, refused) = converse(
        closed(&[(1, 1, UserExtent::Requests(2))]),
        &[stage(true, false)],
    );
    let expected = [
        (1000, 0),
        (1040, 0),
        (1080, 0),
        (1110, 1),
        (1150, 1),
        (1190, 1),
    ];
    let turns = (0..6).map(|at| at % 3 + 1);
    let expected: Vec<_> = expected
        .into_iter()
        .zip(turns)
        .map(|((at, index), turn)| (at, index, turn, true))
        .collect();
    assert_eq!((sent, refused), (expected, 0));
}

#[test]
fn what_began_in_a_warm_up_counts_in_a_timed_stage_and_not_in_a_counted_one() {
    let stages = [stage(false, false), stage(true, false)];
    for (extent, counts) in [(timed(60), true), (UserExtent::Requests(1), false)] {
        let (sent, _) = converse(closed(&[(1, 1, timed(20)), (1, 1, extent)]), &stages);
        assert_eq!(sent[..2], [(1000, 0, 1, false), (1040, 0, 2, counts)]);
    }
}

#[test]
fn in_an_open_loop_arrivals_are_conversations_and_turns_end_with_the_last_stage() {
    let (sent, refused) = converse(open(20.0, 1, 100, OnFull::Queue), &[stage(true, false)]);
    let firsts: Vec<u64> = sent
        .iter()
        .filter(|turn| turn.2 == 1)
        .map(|turn| turn.0)
        .collect();
    assert_eq!(firsts.len(), 20);
    let of_first: Vec<_> = sent.iter().filter(|turn| turn.1 == 0).copied().collect();
    let at = firsts[0];
    assert_eq!(
        of_first,
        [
            (at, 0, 1, true),
            (at + 40, 0, 2, true),
            (at + 80, 0, 3, true)
        ]
    );
    assert!(refused > 0 && sent.iter().all(|turn| turn.0 < 2000));
}

#[test]
fn a_drained_tail_falls() {
    let shared = share(
        closed(&[(2, 2, UserExtent::Requests(3))]),
        &[stage(true, false)],
        1,
    );
    let lives = drive(&shared, |order| if order.index == 2 { 100 } else { 30 });
    assert_eq!(
        sends(&lives),
        [(1000, Some(0), 0), (1000, Some(1), 1), (1030, Some(0), 2)]
    );
    assert_eq!(times(&shared, 1500), [(0, 1000, 1130, Some((1000, 1130)))]);
}

#[test]
fn a_share_per_user_is_kept_by_the_fast_and_the_slow() {
    let shared = share(
        closed(&[(2, 2, UserExtent::RequestsPerUser(2))]),
        &[stage(true, true)],
        2,
    );
    let lives = drive(
        &shared,
        |order| if order.user == Some(1) { 100 } else { 30 },
    );
    let count = |user, measured| {
        lives
            .iter()
            .filter(|life| life.order.user == Some(user) && life.order.measured == measured)
            .count()
    };
    assert_eq!((count(0, true), count(1, true)), (2, 2));
    assert_eq!((count(0, false), count(1, false)), (5, 0));
}

#[test]
fn a_warm_up_lasts_its_time_and_its_requests_but_not_for_ever() {
    let warm = UserExtent::AtLeast {
        duration: duration(100),
        requests: 2,
        at_most: duration(150),
    };
    for (service, ended) in [(20, 1100), (60, 1120), (80, 1150)] {
        let shared = share(
            closed(&[(1, 1, warm), (1, 1, UserExtent::Requests(1))]),
            &[stage(false, false), stage(true, true)],
            1,
        );
        let lives = drive(&shared, |_| service);
        assert_eq!(times(&shared, 5000)[0].2, ended);
        assert_eq!(lives.iter().filter(|life| life.order.measured).count(), 1);
        assert_eq!(lives[0].order.prompt, PromptOrdinal::Warmup(100));
    }
}

#[test]
fn a_level_that_was_never_reached_has_no_steady_window() {
    let shared = share(
        closed(&[(4, 4, UserExtent::Requests(2))]),
        &[stage(true, false)],
        1,
    );
    drive(&shared, |_| 30);
    assert_eq!(times(&shared, 1030), [(0, 1000, 1030, None)]);
}

#[test]
fn a_batch_waits_for_the_last_of_the_one_before() {
    for workers in [1, 2, 3] {
        let shared = share(
            Schedule::Batch {
                size: Some(2),
                requests: 5,
            },
            &[stage(true, false)],
            workers,
        );
        let lives = drive(&shared, |order| 10 * (order.index + 1));
        assert_eq!(
            sends(&lives),
            [
                (1000, None, 0),
                (1000, None, 1),
                (1020, None, 2),
                (1020, None, 3),
                (1060, None, 4),
            ]
        );
        assert!(
            lives
                .iter()
                .all(|life| life.order.intended == ms(life.sent))
        );
        assert_eq!(times(&shared, 2000), [(0, 1000, 1110, Some((1000, 1110)))]);
    }
}

#[test]
fn a_batch_of_all_sends_everything_at_once() {
    let shared = share(
        Schedule::Batch {
            size: None,
            requests: 1000,
        },
        &[stage(true, false)],
        4,
    );
    let lives = drive(&shared, |_| 500);
    assert_eq!(lives.len(), 1000);
    assert!(lives.iter().all(|life| life.sent == 1000));
}

#[test]
fn whoever_waits_is_woken_when_a_stage_ends() {
    let shared = share(
        Schedule::Batch {
            size: Some(1),
            requests: 2,
        },
        &[stage(true, false)],
        2,
    );
    let woken = Arc::new(AtomicU64::new(0));
    let count = Arc::clone(&woken);
    shared.on_change(move || {
        count.fetch_add(1, Ordering::Relaxed);
    });
    let (mut first, mut second) = (shared.pacer(0), shared.pacer(1));
    let Pace::Send(order) = first.next(ms(1000), 0) else {
        panic!("the first batch leaves at the start")
    };
    assert_eq!(second.next(ms(1000), 0), Pace::WaitForSlot);
    first.completed(&order, ms(1040));
    assert_eq!(woken.load(Ordering::Relaxed), 1);
    assert!(matches!(second.next(ms(1041), 0), Pace::Send(order) if order.intended == ms(1040)));
}

#[test]
fn threads_share_one_pool_and_one_end() {
    let shared = share(
        closed(&[(8, 8, UserExtent::Requests(2000))]),
        &[stage(true, true)],
        4,
    );
    let clock = AtomicU64::new(ms(1000).ns());
    let mut counted: Vec<u64> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..4)
            .map(|worker| {
                let mut pacer = shared.pacer(worker);
                let clock = &clock;
                scope.spawn(move || {
                    let mut flight: Vec<SendOrder> = Vec::new();
                    let mut counted = Vec::new();
                    loop {
                        let now = Moment::from_ns(clock.fetch_add(1000, Ordering::Relaxed));
                        match pacer.next(now, flight.len()) {
                            Pace::Send(order) => flight.push(order),
                            Pace::Done => return counted,
                            Pace::CancelRest => {
                                for order in flight.drain(..) {
                                    assert!(!order.measured);
                                    pacer.completed(&order, now);
                                }
                            }
                            _ => {
                                for order in flight.drain(..) {
                                    counted.extend(order.measured.then_some(order.index));
                                    pacer.completed(&order, now);
                                }
                            }
                        }
                    }
                })
            })
            .collect();
        threads
            .into_iter()
            .flat_map(|thread| thread.join().unwrap())
            .collect()
    });
    counted.sort_unstable();
    assert_eq!(counted, (0..2000).collect::<Vec<u64>>());
    assert_eq!(shared.unsent(), []);
}
