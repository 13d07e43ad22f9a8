//! The scheduler: runs the real PID 1 and the real supervisor on the machine, in one thread.
//!
//! The supervisor is an ordinary call on the stack of this thread. Whenever it makes a call to its
//! kernel, time passes first: PID 1 runs turns of its loop, and the events on the machine's agenda
//! happen, in an order that the seed determines. While the supervisor waits, the same happens until a
//! descriptor that it watches is ready or its timeout is over.
//!
//! The supervisor is killed by unwinding from a call. Its descriptors are closed before, and nothing
//! that it does while it unwinds reaches the machine.

use crate::kernel::handles::Caller;
use crate::kernel::{InitKernel, SupervisorKernel};
use crate::machine::Machine;
use crate::machine::agenda::Event;
use crate::machine::objects::Owner;
use crate::scenario::{Crash, Scenario};
use crate::trace::{self, Trace};
use init::pid1::Pid1;
use ipc::{ExitStatus, Service};
use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::rc::{Rc, Weak};
use supervisor::shell::Shell;

/// What the supervisor is unwound with when it is killed.
struct Killed;

/// What the supervisor is unwound with when the schedule is over.
struct Over;

/// The machine and who lives on it.
pub struct World {
    machine: Rc<RefCell<Machine>>,
    init: RefCell<Option<Pid1<InitKernel>>>,
    crash: Option<Crash>,
    end_us: u64,
    this: Weak<World>,
}

/// How a schedule went.
#[derive(Debug)]
pub struct Outcome {
    /// The rules that were broken.
    pub violations: Vec<String>,
    /// What happened, if that was recorded.
    pub trace: Vec<String>,
    /// Calls that supervisors made.
    pub calls: u64,
    /// Supervisors that died.
    pub deaths: u64,
    /// Calls that failed.
    pub faults: u64,
    /// Runs of containers.
    pub runs: usize,
    /// A number that two schedules share if the same happened in both.
    pub fingerprint: u64,
}

impl World {
    /// Runs a scenario to its end.
    pub fn run(scenario: &Scenario, traced: bool) -> Outcome {
        trace::capture_log();
        trace::listen(traced);
        let mut machine = Machine::new(
            scenario.seed,
            scenario.options.clone(),
            scenario.people(),
            Trace::new(traced),
        );
        for (unit, config) in &scenario.units {
            machine.checker.units.insert(unit.clone(), config.clone());
        }
        for (at_us, event) in &scenario.events {
            machine.after(*at_us, event.clone());
        }
        machine.after(0, Event::Person);
        machine.after(scenario.calm_us, Event::Calm);
        let end_us = machine.now_us + scenario.calm_us + scenario.settle_us;
        let machine = Rc::new(RefCell::new(machine));
        let world = Rc::new_cyclic(|this: &Weak<World>| World {
            machine: Rc::clone(&machine),
            init: RefCell::new(None),
            crash: scenario.crash,
            end_us,
            this: this.clone(),
        });
        world.live(scenario);
        machine.borrow_mut().over = true;
        drop(world.init.borrow_mut().take());
        let mut machine = machine.borrow_mut();
        machine.note_log();
        Outcome {
            violations: std::mem::take(&mut machine.checker.violations),
            trace: machine.trace.take(),
            calls: machine.calls,
            deaths: machine.checker.deaths,
            faults: machine.checker.faults,
            runs: machine.runs.len(),
            fingerprint: machine.fingerprint(),
        }
    }

    fn caller(&self, owner: Owner) -> Caller {
        Caller { machine: Rc::clone(&self.machine), world: self.this.clone(), owner }
    }

    fn live(&self, scenario: &Scenario) {
        let services = [Service::Devices, Service::Supervisor, Service::Netsetup, Service::Logger];
        let faults = std::mem::take(&mut self.machine.borrow_mut().options.fault_ppm);
        let kernel = InitKernel { caller: self.caller(Owner::Init) };
        match Pid1::new(kernel, services, 0) {
            Ok(mut pid1) => {
                self.machine.borrow_mut().options.fault_ppm = faults;
                pid1.start_all();
                *self.init.borrow_mut() = Some(pid1);
            }
            Err(error) => return self.machine.borrow_mut().violated(error.to_string()),
        }
        while !self.is_over() {
            let life = self.machine.borrow().supervisor;
            match life {
                Some(life) if self.machine.borrow().now_us >= life.boot_at => {
                    self.supervise(scenario);
                }
                Some(life) => {
                    if self.machine.borrow().supervisor_to_be_killed {
                        self.machine.borrow_mut().supervisor_dies_early(life);
                    } else {
                        self.step(life.boot_at.min(self.end_us));
                    }
                }
                None => drop(self.step(self.end_us)),
            }
        }
        let mut machine = self.machine.borrow_mut();
        if machine.checker.violations.is_empty() {
            machine.check_the_end();
        }
    }

    /// Runs a supervisor until it dies or the schedule is over.
    fn supervise(&self, scenario: &Scenario) {
        self.machine.borrow_mut().note("supervisor", || "starts".to_owned());
        let kernel = SupervisorKernel::new(self.caller(Owner::Supervisor));
        let ended = catch_unwind(AssertUnwindSafe(|| {
            Shell::start(kernel, || scenario.config()).and_then(Shell::run)
        }));
        match ended {
            Ok(result) => {
                let why = result.err().map_or("no reason".to_owned(), |error| error.to_string());
                let mut machine = self.machine.borrow_mut();
                machine.note("supervisor", || format!("ends: {why}"));
                machine.supervisor_dies(ExitStatus::Code(1));
            }
            Err(payload) if payload.is::<Killed>() || payload.is::<Over>() => {}
            Err(payload) => {
                let mut machine = self.machine.borrow_mut();
                machine.violated(format!("the supervisor panicked: {}", panic_text(&*payload)));
            }
        }
    }

    fn is_over(&self) -> bool {
        let machine = self.machine.borrow();
        machine.now_us >= self.end_us
            || machine.finished.is_some()
            || !machine.checker.violations.is_empty()
    }

    /// Lets PID 1 or the machine act once, no later than at `limit`; `false` when it is that late.
    pub fn step(&self, limit: u64) -> bool {
        let init = {
            let mut machine = self.machine.borrow_mut();
            let (init, event) = (machine.init_due(), machine.next_event());
            let Some(next) = init.into_iter().chain(event).min().filter(|next| *next <= limit)
            else {
                machine.now_us = machine.now_us.max(limit);
                return false;
            };
            machine.now_us = machine.now_us.max(next);
            machine.count_step();
            let now = machine.now_us;
            let (init, event) =
                (init.is_some_and(|at| at <= now), event.is_some_and(|at| at <= now));
            let init = init && (!event || machine.rng.percent(50));
            if !init {
                machine.happen();
            }
            init
        };
        if init && let Some(pid1) = self.init.borrow_mut().as_mut() {
            let turn = catch_unwind(AssertUnwindSafe(|| pid1.turn()));
            if let Err(payload) = turn {
                let text = panic_text(&*payload);
                self.machine.borrow_mut().violated(format!("PID 1 panicked: {text}"));
            }
        }
        true
    }

    /// The supervisor is about to make a call: others may act first, and it may be killed.
    pub fn before_call(&self, name: &'static str) {
        self.leave_if_over();
        let until = {
            let mut machine = self.machine.borrow_mut();
            machine.calls += 1;
            let (now, calm) = (machine.now_us, machine.calm);
            machine.mix(name.len() as u64);
            let rng = &mut machine.rng;
            let takes = match rng.below(1000) {
                0..980 => rng.between(1, 40),
                980..998 => rng.between(1, 5_000),
                _ if calm => 1,
                _ => rng.between(1, 2_000_000),
            };
            now + takes
        };
        self.die_if_due(name, false);
        while self.step(until) {
            self.leave_if_over();
        }
        self.die_if_killed(name);
    }

    /// The supervisor has made a call.
    pub fn after_call(&self, name: &'static str) {
        self.leave_if_over();
        self.die_if_due(name, true);
    }

    /// Kills the supervisor if the plan, or chance, says so.
    fn die_if_due(&self, name: &'static str, after: bool) {
        let due = {
            let mut machine = self.machine.borrow_mut();
            let planned =
                self.crash.is_some_and(|crash| crash.call == machine.calls && crash.after == after);
            let ppm = machine.options.kill_ppm;
            planned || machine.rng.ppm(ppm)
        };
        if due {
            let when = if after { "after" } else { "before" };
            self.machine.borrow_mut().note("fate", || format!("kill the supervisor {when} {name}"));
            self.die();
        }
    }

    fn die_if_killed(&self, name: &'static str) {
        if self.machine.borrow().supervisor_to_be_killed {
            self.machine
                .borrow_mut()
                .note("fate", || format!("the supervisor is killed at {name}"));
            self.die();
        }
    }

    fn die(&self) -> ! {
        self.machine.borrow_mut().supervisor_dies(ExitStatus::Signal(9));
        resume_unwind(Box::new(Killed));
    }

    fn leave_if_over(&self) {
        if self.is_over() {
            resume_unwind(Box::new(Over));
        }
    }

    /// The supervisor waits until `ready` says so or its time is over (`None`: no limit).
    pub fn wait_until<T>(
        &self,
        deadline: Option<u64>,
        mut ready: impl FnMut(&mut Machine) -> Option<T>,
    ) -> Option<T> {
        loop {
            self.leave_if_over();
            self.die_if_killed("wait");
            if let Some(found) = ready(&mut self.machine.borrow_mut()) {
                return Some(found);
            }
            if deadline.is_some_and(|at| at <= self.machine.borrow().now_us) {
                return None;
            }
            self.step(deadline.unwrap_or(self.end_us).min(self.end_us));
        }
    }
}

fn panic_text(payload: &(dyn std::any::Any + Send)) -> String {
    let text = payload.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| payload.downcast_ref::<String>().cloned()).unwrap_or_else(|| "?".to_owned())
}
