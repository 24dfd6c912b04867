//! The fence: asked just before each write.

use std::future::Future;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;
use std::time::Duration;

use super::machine::Term;
use crate::clock::Clock;

/// A call is not begun when less than this is left: hardly any is answered within it.
const SHORTEST_CALL: Duration = Duration::from_millis(100);

/// Until when this operator may act. Clones share it.
#[derive(Debug, Clone)]
pub struct Fence(Arc<Mutex<State>>);

#[derive(Debug, Clone, Copy)]
enum State {
    /// No lease is needed.
    Open,
    Closed,
    Term(Term),
}

/// What a call may do that the fence let pass.
#[derive(Debug, Clone)]
pub struct Permit {
    /// When it must have ended, on the operator's monotonic clock; none when nothing ends it.
    until: Option<Duration>,
    /// The term that it belongs to. Each renewal of the lease moves the end.
    term: Option<(Fence, u64)>,
}

impl Fence {
    /// One that lets everything pass: of an operator that shares its instance with nobody.
    pub fn open() -> Self {
        Fence(Arc::new(Mutex::new(State::Open)))
    }

    /// One that lets nothing pass yet.
    pub fn closed() -> Self {
        Fence(Arc::new(Mutex::new(State::Closed)))
    }

    /// Lets what belongs to this term pass while it is in force, and nothing else.
    pub fn set(&self, term: Option<Term>) {
        self.put(term.map_or(State::Closed, State::Term));
    }

    /// Lets everything pass from now on.
    pub fn set_open(&self) {
        self.put(State::Open);
    }

    /// May a write be sent `now` that was decided in the term of this number?
    pub fn permit(&self, term: u64, now: Duration) -> Option<Permit> {
        let state = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match state {
            State::Open => Some(Permit { until: None, term: None }),
            State::Closed => None,
            State::Term(in_force) => {
                let fits = in_force.number == term && in_force.holds(now) && in_force.holds(now + SHORTEST_CALL);
                fits.then(|| Permit {
                    until: Some(in_force.until).filter(|until| *until < Duration::MAX),
                    term: Some((self.clone(), term)),
                })
            }
        }
    }

    /// May anything be sent `now`, in whatever term it was decided? For where bytes leave, below which nothing knows
    /// terms: a call that was given up in an earlier term is taken back before another one begins.
    pub fn passes(&self, now: Duration) -> bool {
        match *self.0.lock().unwrap_or_else(PoisonError::into_inner) {
            State::Open => true,
            State::Closed => false,
            State::Term(in_force) => in_force.holds(now),
        }
    }

    /// When the term of this number ends, as far as its renewals are known by now; none when it is over.
    fn end_of(&self, term: u64) -> Option<Duration> {
        match *self.0.lock().unwrap_or_else(PoisonError::into_inner) {
            State::Term(in_force) if in_force.number == term => Some(in_force.until),
            State::Open | State::Closed | State::Term(_) => None,
        }
    }

    fn put(&self, state: State) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = state;
    }
}

impl Permit {
    /// Makes a call within what is left; none when the time ran out before its end, and then it may have worked.
    ///
    /// The time is looked at before every step of the call, not only when a timer rings: after the process was stopped
    /// for a while, nothing that was not sent before is sent.
    pub async fn within<T>(self, clock: &impl Clock, call: impl Future<Output = T>) -> Option<T> {
        let Some(mut until) = self.until else { return Some(call.await) };
        let mut call = pin!(call);
        loop {
            let step = std::future::poll_fn(|context| match clock.now() >= until {
                true => Poll::Ready(None),
                false => call.as_mut().poll(context).map(Some),
            });
            let left = until.saturating_sub(clock.now());
            if let Ok(Some(answer)) = tokio::time::timeout(left, step).await {
                return Some(answer);
            }
            // The timer's clock and ours differ by less than a tick.
            if clock.now() < until {
                continue;
            }
            // While the lease is renewed, a call goes on. The end that was known first is no later than any other.
            let renewed = self.term.as_ref().and_then(|(fence, term)| fence.end_of(*term));
            until = renewed.filter(|end| *end > clock.now())?;
        }
    }

    /// One that ends at this time.
    pub(super) fn until(until: Duration) -> Self {
        Permit { until: Some(until), term: None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::TestClock;

    fn seconds(number: u64) -> Duration {
        Duration::from_secs(number)
    }

    #[test]
    fn only_what_was_decided_in_the_term_that_is_in_force_passes() {
        let fence = Fence::closed();
        assert!(fence.permit(1, seconds(1)).is_none());
        fence.set(Some(Term { number: 1, from: seconds(1), until: seconds(10) }));
        let passes: Vec<bool> = [0, 1, 9, 10, 11].iter().map(|at| fence.permit(1, seconds(*at)).is_some()).collect();
        assert_eq!(passes, [false, true, true, false, false]);
        assert!(fence.permit(1, seconds(10) - SHORTEST_CALL / 2).is_none(), "too little is left");
        assert!(fence.permit(2, seconds(5)).is_none());
        let passes: Vec<bool> = [0, 1, 9, 10].iter().map(|at| fence.passes(seconds(*at))).collect();
        assert_eq!(passes, [false, true, true, false]);
        fence.set(None);
        assert!(fence.permit(1, seconds(5)).is_none());
        assert!(!fence.passes(seconds(5)));
        assert!(Fence::open().permit(7, seconds(5)).is_some() && Fence::open().passes(seconds(5)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_goes_on_while_the_lease_is_renewed_and_ends_with_it() {
        let clock = TestClock::new();
        let fence = Fence::closed();
        let term = |until| Some(Term { number: 3, from: seconds(0), until: seconds(until) });
        fence.set(term(10));
        let permit = fence.permit(3, clock.now()).unwrap();
        let renewals = async {
            for at in [5, 10, 15] {
                tokio::time::sleep(seconds(4)).await;
                fence.set(term(at + 10));
            }
        };
        let call = permit.within(&clock, tokio::time::sleep(seconds(60)));
        let (outcome, ()) = tokio::join!(call, renewals);
        assert_eq!(outcome, None);
        assert_eq!(clock.now(), seconds(25), "the end of the last renewal");

        fence.set(Some(Term { number: 3, from: seconds(0), until: seconds(35) }));
        let permit = fence.permit(3, clock.now()).unwrap();
        let lost = async {
            tokio::time::sleep(seconds(4)).await;
            fence.set(Some(Term { number: 4, from: seconds(0), until: seconds(90) }));
        };
        let (outcome, ()) = tokio::join!(permit.within(&clock, tokio::time::sleep(seconds(60))), lost);
        assert_eq!((outcome, clock.now()), (None, seconds(35)), "another term gives no more time");
    }

    #[tokio::test(start_paused = true)]
    async fn no_call_outlives_its_permit() {
        let clock = TestClock::new();
        let sleep = |number| tokio::time::sleep(seconds(number));
        assert_eq!(Permit::until(seconds(10)).within(&clock, sleep(9)).await, Some(()));
        assert_eq!(Permit::until(seconds(10)).within(&clock, sleep(9)).await, None);
        assert_eq!(clock.now(), seconds(10));
        let sent = std::cell::Cell::new(false);
        let call = async { sent.set(true) };
        assert_eq!(Permit::until(seconds(10)).within(&clock, call).await, None);
        assert!(!sent.get(), "a call whose time is over is not even begun");
    }
}
