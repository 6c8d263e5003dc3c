//! Times out of durations: where a file has each request's duration and the number of slots, but no times, the slots tell them.
//!
//! A client that keeps N requests in flight, and takes the next of its list when one ends, leaves no choice: request i begins when
//! the first of the slots before it is free.

use super::found::Request;

/// The same requests with the instants at which they were sent, and the end of the last one in seconds.
pub(super) fn with_times(requests: &[Request], slots: u32) -> Option<(Vec<Request>, f64)> {
    let mut free = vec![0.0f64; slots.max(1) as usize];
    let mut timed = Vec::with_capacity(requests.len());
    for request in requests {
        let took = request.e2e_ms? / 1e3;
        let slot = (0..free.len()).min_by(|one, other| free[*one].total_cmp(&free[*other]))?;
        timed.push(Request {
            start_s: Some(free[slot]),
            ..*request
        });
        free[slot] += took;
    }
    let end = free.into_iter().fold(0.0, f64::max);
    (!timed.is_empty()).then_some((timed, end))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_begins_when_a_slot_is_free() {
        let took = [3.0, 1.0, 1.0, 2.0].map(|seconds| Request {
            e2e_ms: Some(seconds * 1e3),
            ..Request::default()
        });
        let (timed, end) = with_times(&took, 2).unwrap();
        let starts: Vec<f64> = timed.iter().filter_map(|one| one.start_s).collect();
        assert_eq!((starts, end), (vec![0.0, 0.0, 1.0, 2.0], 4.0));
        assert_eq!(with_times(&[Request::default()], 2), None);
    }
}
