//! The runtime of a load thread: one thread, one epoll, and futures that are polled when their socket says so.
//!
//! A general runtime pays for what a load thread does not need: tasks that may move between threads, wakers behind locks, a
//! timer for each sleep. Where every event wakes the process, such code is cold each time it runs, and costs more than the
//! kernel's part of the read. Here an event on a socket leads straight to the task that waits for it. The thread itself reads
//! the clock when it goes to sleep and when it wakes, which tells how exact the stamps of shared reads can be.

use std::cell::{Cell, RefCell};
use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::future::{Future, poll_fn};
use std::io;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use mio::event::Source;
use mio::{Events, Interest, Registry, Token};

use super::alarm::Timer;
use super::stamp::{Pulse, StampClock};
use crate::clock::Clock;
use crate::units::Moment;

/// Sockets that one look at the system may tell of.
const EVENTS: usize = 1024;
/// Of so many polls one goes to a task that no socket has woken, however many sockets there are.
const SHARE: u32 = 64;
/// After so many polls sockets are looked at before anything new is begun.
const BURST: u32 = 16;
const WAKER: Token = Token(usize::MAX);
const TIMER: Token = Token(usize::MAX - 1);
/// The future that `block_on` was given.
const MAIN: usize = 0;

/// Runs the futures of one thread.
pub struct Reactor {
    poll: RefCell<mio::Poll>,
    events: RefCell<Events>,
    registry: Registry,
    clock: StampClock,
    sources: RefCell<Slots<Readiness>>,
    tasks: RefCell<Slots<Task>>,
    /// Tasks whose sockets have something: what has come is read before anything new is begun.
    ready: RefCell<VecDeque<usize>>,
    /// Other tasks to be polled.
    later: RefCell<VecDeque<usize>>,
    /// Polls since the last look at the system.
    polls: Cell<u32>,
    /// The task that is being polled.
    current: Cell<usize>,
    /// When tasks want to be polled whatever their sockets do.
    deadlines: RefCell<BinaryHeap<Reverse<(Moment, usize)>>>,
    /// When the main future wants to be polled, to the microsecond.
    alarm: Cell<Option<Moment>>,
    timer: RefCell<Timer>,
    /// When the thread last looked at the system.
    looked: Cell<Moment>,
    remote: Arc<Remote>,
}

struct Task {
    /// `None` while it is polled.
    work: Option<Work>,
    queued: bool,
    /// The nearest instant at which it will be polled anyway.
    deadline: Option<Moment>,
}

/// A task's future, and its waker so that none is made for a poll. The main future lies with the caller.
struct Work {
    future: Option<Pin<Box<dyn Future<Output = ()>>>>,
    waker: Waker,
}

/// What is known of a socket between reads.
#[derive(Debug, Default)]
struct Readiness {
    readable: Cell<bool>,
    writable: Cell<bool>,
    /// The peer will send no more: it stays readable to the end.
    closed: Cell<bool>,
    /// The task that waits for it.
    task: Cell<usize>,
}

impl Readiness {
    fn note(&self, event: &mio::event::Event) {
        let closed = event.is_read_closed() || event.is_error();
        self.closed.set(self.closed.get() || closed);
        if event.is_readable() || closed {
            self.readable.set(true);
        }
        if event.is_writable() || event.is_error() {
            self.writable.set(true);
        }
    }
}

/// Wakes from outside, and those that a future's waker asks for.
struct Remote {
    woken: Mutex<Vec<usize>>,
    any: AtomicBool,
    sleeping: AtomicBool,
    waker: mio::Waker,
}

struct TaskWaker {
    task: usize,
    remote: Arc<Remote>,
}

impl Wake for TaskWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        let remote = &self.remote;
        remote
            .woken
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(self.task);
        remote.any.store(true, Ordering::SeqCst);
        if remote.sleeping.load(Ordering::SeqCst) {
            // It fails only when the thread has gone, and then there is nobody to wake.
            let _ = remote.waker.wake();
        }
    }
}

impl std::fmt::Debug for Reactor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reactor").finish_non_exhaustive()
    }
}

impl Reactor {
    /// For the cell that `clock` belongs to; how late the thread is goes to `pulse`.
    ///
    /// # Errors
    /// The system gives no epoll or timer.
    pub fn new(clock: Clock, pulse: Arc<Pulse>) -> io::Result<Rc<Reactor>> {
        let poll = mio::Poll::new()?;
        let registry = poll.registry().try_clone()?;
        let remote = Arc::new(Remote {
            woken: Mutex::default(),
            any: AtomicBool::new(false),
            sleeping: AtomicBool::new(false),
            waker: mio::Waker::new(&registry, WAKER)?,
        });
        let timer = Timer::new(&registry, TIMER)?;
        let reactor = Reactor {
            poll: RefCell::new(poll),
            events: RefCell::new(Events::with_capacity(EVENTS)),
            registry,
            clock: StampClock::new(clock, pulse),
            sources: RefCell::default(),
            tasks: RefCell::default(),
            ready: RefCell::default(),
            later: RefCell::default(),
            polls: Cell::new(0),
            current: Cell::new(MAIN),
            deadlines: RefCell::default(),
            alarm: Cell::new(None),
            timer: RefCell::new(timer),
            looked: Cell::new(clock.now()),
            remote,
        };
        reactor.add_task(None);
        Ok(Rc::new(reactor))
    }

    /// The clock of the cell, and what maps the kernel's stamps to it.
    pub fn clock(&self) -> &StampClock {
        &self.clock
    }

    /// Polls `main`, and every task that it spawns, until it is done; the tasks that are not done by then are dropped.
    ///
    /// # Errors
    /// The system cannot be asked for events.
    pub fn block_on<F: Future>(&self, main: F) -> io::Result<F::Output> {
        self.queue(MAIN, &self.later);
        let done = self.run(pin!(main))?;
        let left = std::mem::take(&mut *self.tasks.borrow_mut());
        // Their sockets leave the reactor as they are dropped.
        drop(left);
        self.add_task(None);
        Ok(done)
    }

    fn run<F: Future>(&self, mut main: Pin<&mut F>) -> io::Result<F::Output> {
        loop {
            while let Some(task) = self.next_ready() {
                self.current.set(task);
                if task != MAIN {
                    self.poll_task(task);
                } else if let Poll::Ready(done) = self.poll_main(main.as_mut()) {
                    return Ok(done);
                }
            }
            self.look()?;
        }
    }

    /// The next task to be polled; none when it is time to look at the system again.
    fn next_ready(&self) -> Option<usize> {
        self.take_woken();
        let polls = self.polls.get();
        self.polls.set(polls + 1);
        // What is due now goes before whatever else is ready.
        if self.alarm.get().is_some_and(|at| at <= self.clock.latest()) {
            self.alarm.set(None);
            return Some(MAIN);
        }
        let (ready, later) = (&self.ready, &self.later);
        let task = if polls % SHARE == SHARE - 1 {
            later
                .borrow_mut()
                .pop_front()
                .or_else(|| ready.borrow_mut().pop_front())
        } else {
            let from_socket = ready.borrow_mut().pop_front();
            // New work only between looks at the sockets.
            from_socket.or_else(|| (polls < BURST).then(|| later.borrow_mut().pop_front())?)
        }?;
        if let Some(slot) = self.tasks.borrow_mut().get_mut(task) {
            slot.queued = false;
        }
        Some(task)
    }

    fn take_work(&self, index: usize) -> Option<Work> {
        self.tasks.borrow_mut().get_mut(index)?.work.take()
    }

    fn put_back(&self, index: usize, work: Work) {
        if let Some(task) = self.tasks.borrow_mut().get_mut(index) {
            task.work = Some(work);
        }
    }

    fn poll_main<F: Future>(&self, main: Pin<&mut F>) -> Poll<F::Output> {
        let Some(work) = self.take_work(MAIN) else {
            return Poll::Pending;
        };
        let polled = main.poll(&mut Context::from_waker(&work.waker));
        self.put_back(MAIN, work);
        polled
    }

    fn poll_task(&self, index: usize) {
        // A wake for a task that has ended meanwhile finds none.
        let Some(mut work) = self.take_work(index) else {
            return;
        };
        let mut context = Context::from_waker(&work.waker);
        let done = work
            .future
            .as_mut()
            .is_none_or(|future| future.as_mut().poll(&mut context).is_ready());
        if done {
            drop(work);
            self.tasks.borrow_mut().remove(index);
        } else {
            self.put_back(index, work);
        }
    }

    /// Starts a task.
    pub fn spawn(&self, future: impl Future<Output = ()> + 'static) {
        let task = self.add_task(Some(Box::pin(future)));
        self.queue(task, &self.later);
    }

    fn add_task(&self, future: Option<Pin<Box<dyn Future<Output = ()>>>>) -> usize {
        let remote = &self.remote;
        self.tasks.borrow_mut().insert(|task| Task {
            work: Some(Work {
                future,
                waker: Waker::from(Arc::new(TaskWaker {
                    task,
                    remote: remote.clone(),
                })),
            }),
            queued: false,
            deadline: None,
        })
    }

    fn queue(&self, index: usize, queue: &RefCell<VecDeque<usize>>) {
        if let Some(task) = self.tasks.borrow_mut().get_mut(index)
            && !std::mem::replace(&mut task.queued, true)
        {
            queue.borrow_mut().push_back(index);
        }
    }

    fn take_woken(&self) {
        if self.remote.any.swap(false, Ordering::SeqCst) {
            let woken = std::mem::take(
                &mut *self
                    .remote
                    .woken
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner),
            );
            woken
                .into_iter()
                .for_each(|task| self.queue(task, &self.later));
        }
    }

    /// Asks the system what has happened, and waits for it if nothing is to be done before.
    fn look(&self) -> io::Result<()> {
        let now = self.clock.look();
        self.looked.set(now);
        self.polls.set(0);
        self.ring(now);
        let wait = self.wait(now)?;
        let mut events = self.events.borrow_mut();
        match self.poll.borrow_mut().poll(&mut events, wait) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => events.clear(),
            other => other?,
        }
        self.remote.sleeping.store(false, Ordering::SeqCst);
        let sources = self.sources.borrow();
        for event in events.iter() {
            match event.token() {
                WAKER => {}
                TIMER => {
                    self.timer.borrow_mut().rang();
                    self.queue(MAIN, &self.later);
                }
                Token(index) => {
                    if let Some(readiness) = sources.get(index) {
                        readiness.note(event);
                        self.queue(readiness.task.get(), &self.ready);
                    }
                }
            }
        }
        Ok(())
    }

    /// How long the thread may sleep. From here on a waker wakes it.
    fn wait(&self, now: Moment) -> io::Result<Option<Duration>> {
        let early = self.timer.borrow_mut().set(self.alarm.get(), now)?;
        self.remote.sleeping.store(true, Ordering::SeqCst);
        let busy = self.remote.any.load(Ordering::SeqCst)
            || !self.ready.borrow().is_empty()
            || !self.later.borrow().is_empty();
        let deadlines = self.deadlines.borrow();
        let nearest = deadlines.peek().map(|Reverse((at, _))| at.since(now));
        let wait = match (nearest, early) {
            _ if busy => Some(Duration::ZERO),
            (Some(nearest), Some(early)) => Some(nearest.min(early)),
            (one, other) => one.or(other),
        };
        if wait == Some(Duration::ZERO) {
            self.clock.stays_awake();
        }
        Ok(wait)
    }

    fn ring(&self, now: Moment) {
        let mut deadlines = self.deadlines.borrow_mut();
        while let Some(&Reverse((at, index))) = deadlines.peek()
            && at <= now
        {
            deadlines.pop();
            if let Some(task) = self.tasks.borrow_mut().get_mut(index) {
                task.deadline = None;
            }
            self.queue(index, &self.later);
        }
    }

    /// Whether `at` has come; if not, the task that is being polled is polled again then or soon after, to the millisecond,
    /// whatever its sockets do. Costs no look at the clock.
    pub fn has_come(&self, at: Moment) -> bool {
        if self.looked.get() >= at {
            return true;
        }
        let current = self.current.get();
        if let Some(task) = self.tasks.borrow_mut().get_mut(current)
            && task.deadline.is_none_or(|deadline| at < deadline)
        {
            task.deadline = Some(at);
            self.deadlines.borrow_mut().push(Reverse((at, current)));
        }
        false
    }

    /// Lets every task whose socket has something go first, and some of the others.
    pub async fn let_others(&self) {
        let mut waited = false;
        poll_fn(|_| {
            if std::mem::replace(&mut waited, true) {
                return Poll::Ready(());
            }
            self.queue(self.current.get(), &self.later);
            Poll::Pending
        })
        .await;
    }

    /// Waits until `at`, to the microseconds that the system can; only the main future may.
    pub async fn alarm(&self, at: Moment) {
        poll_fn(|_| {
            if self.clock.clock().now() >= at {
                return Poll::Ready(());
            }
            self.alarm.set(Some(at));
            Poll::Pending
        })
        .await;
    }

    /// Waits for `work`, but not past `deadline`.
    pub async fn before<F: Future>(&self, deadline: Moment, work: F) -> Option<F::Output> {
        let mut work = pin!(work);
        poll_fn(|context| {
            if let Poll::Ready(done) = work.as_mut().poll(context) {
                return Poll::Ready(Some(done));
            }
            match self.has_come(deadline) {
                true => Poll::Ready(None),
                false => Poll::Pending,
            }
        })
        .await
    }

    /// Watches a socket from now on.
    ///
    /// # Errors
    /// The system refuses it.
    pub(super) fn register<S: Source>(self: &Rc<Self>, mut socket: S) -> io::Result<Registered<S>> {
        let index = self.sources.borrow_mut().insert(|_| Readiness::default());
        let both = Interest::READABLE | Interest::WRITABLE;
        let registered = self.registry.register(&mut socket, Token(index), both);
        let registered = registered.map(|()| Registered {
            socket,
            index,
            reactor: self.clone(),
        });
        if registered.is_err() {
            self.sources.borrow_mut().remove(index);
        }
        registered
    }
}

/// A socket that the reactor watches.
#[derive(Debug)]
pub(super) struct Registered<S: Source> {
    pub(super) socket: S,
    index: usize,
    reactor: Rc<Reactor>,
}

impl<S: Source> Registered<S> {
    pub(super) fn reactor(&self) -> &Reactor {
        &self.reactor
    }

    /// Whether there may be something to read; if not, the current task is polled when there is.
    pub(super) fn is_readable(&self) -> bool {
        self.with(|readiness| {
            readiness.task.set(self.reactor.current.get());
            readiness.readable.get()
        })
    }

    /// A read took everything that was there; the end of the stream may still be.
    pub(super) fn is_drained(&self) {
        self.with(|readiness| readiness.readable.set(readiness.closed.get()));
    }

    /// A read found nothing.
    pub(super) fn is_empty(&self) {
        self.with(|readiness| readiness.readable.set(false));
    }

    /// Whether bytes may be taken; if not, the current task is polled when they may.
    pub(super) fn is_writable(&self) -> bool {
        self.with(|readiness| {
            readiness.task.set(self.reactor.current.get());
            readiness.writable.get()
        })
    }

    /// The socket takes no more for now.
    pub(super) fn is_full(&self) {
        self.with(|readiness| readiness.writable.set(false));
    }

    fn with<T>(&self, look: impl FnOnce(&Readiness) -> T) -> T {
        match self.reactor.sources.borrow().get(self.index) {
            Some(readiness) => look(readiness),
            // It leaves the list only with the socket.
            None => look(&Readiness::default()),
        }
    }
}

impl<S: Source> Drop for Registered<S> {
    fn drop(&mut self) {
        // The socket is closed right after, which takes it out of the system's list in any case.
        let _ = self.reactor.registry.deregister(&mut self.socket);
        self.reactor.sources.borrow_mut().remove(self.index);
    }
}

/// A list whose places are used again.
struct Slots<T> {
    places: Vec<Option<T>>,
    free: Vec<usize>,
}

impl<T> Default for Slots<T> {
    fn default() -> Slots<T> {
        Slots {
            places: Vec::new(),
            free: Vec::new(),
        }
    }
}

impl<T> Slots<T> {
    fn insert(&mut self, make: impl FnOnce(usize) -> T) -> usize {
        let index = self.free.pop().unwrap_or_else(|| {
            self.places.push(None);
            self.places.len() - 1
        });
        self.places[index] = Some(make(index));
        index
    }

    fn get(&self, index: usize) -> Option<&T> {
        self.places.get(index)?.as_ref()
    }

    fn get_mut(&mut self, index: usize) -> Option<&mut T> {
        self.places.get_mut(index)?.as_mut()
    }

    fn remove(&mut self, index: usize) {
        if self.places.get_mut(index).and_then(Option::take).is_some() {
            self.free.push(index);
        }
    }
}
