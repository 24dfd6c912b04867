//! Which stretches of time rules cover, day by day. Moments are whole seconds since the epoch, stretches exclude their end.

use std::collections::VecDeque;
use std::iter::Peekable;

use jiff::civil::{Date, time};

use super::{Effect, WindowRule};

/// Length of a day without a change of the clock, in seconds.
const DAY: i64 = 86_400;

/// What one rule covers, from the first stretch on that ends after a moment. Sorted by their starts; may overlap.
pub(super) struct RuleSpans<'r> {
    rule: &'r WindowRule,
    /// Only what ends after it counts.
    from: i64,
    /// Nothing that starts after it counts.
    end: i64,
    /// The next day to look at; none after the last.
    day: Option<Date>,
    /// Found and not handed out yet. Sorted.
    found: VecDeque<(i64, i64)>,
    /// Days that are not looked at yet have no start before it.
    certain: i64,
}

impl<'r> RuleSpans<'r> {
    pub(super) fn new(rule: &'r WindowRule, from: i64, end: i64) -> Self {
        // A day earlier than needed: what the day before covers may reach further when clocks go back at midnight.
        let first = rule.zone.civil(from.saturating_sub(rule.length.seconds() + DAY));
        let day = first.map(|first| first.date());
        RuleSpans { rule, from, end, day, found: VecDeque::new(), certain: i64::MIN }
    }

    /// Looks at the next day.
    fn look(&mut self) {
        let Some(day) = self.day.take() else { return };
        let midnight = |day: Date| Some(self.rule.zone.moments(day.to_datetime(time(0, 0, 0, 0)))?.0);
        let Ok(next) = day.tomorrow() else { return };
        if !self.rule.cron.matches(day) {
            // Midnights are not free; without anything found nobody needs this one.
            if !self.found.is_empty() {
                let Some(end) = midnight(next) else { return };
                self.certain = end;
            } else if next.day() == 1 && midnight(next).is_none_or(|midnight| midnight > self.end) {
                return;
            }
            self.day = Some(next);
            return;
        }
        let (Some(start), Some(end)) = (midnight(day), midnight(next)) else { return };
        if start > self.end {
            return;
        }
        if end - start == DAY {
            self.found.extend(self.rule.day.iter().map(|(from, to)| (start + from, start + to)));
        } else {
            self.look_closely(day);
        }
        self.certain = end;
        self.day = Some(next);
    }

    /// The same on a day on which the clock changes.
    fn look_closely(&mut self, day: Date) {
        let length = self.rule.length.seconds();
        for seconds in self.rule.cron.starts() {
            let Ok(civil) = day.to_datetime(time(0, 0, 0, 0)).checked_add(jiff::SignedDuration::from_secs(seconds))
            else {
                continue;
            };
            let Some((first, second)) = self.rule.zone.moments(civil) else { continue };
            let second = second.filter(|_| self.rule.cron.is_hourly());
            self.found.extend([Some(first), second].into_iter().flatten().map(|start| (start, start + length)));
        }
        self.found.make_contiguous().sort_unstable();
    }
}

impl Iterator for RuleSpans<'_> {
    type Item = (i64, i64);

    fn next(&mut self) -> Option<(i64, i64)> {
        loop {
            match self.found.front() {
                Some((start, _)) if *start > self.end => return None,
                Some((start, end)) if *start < self.certain || self.day.is_none() => {
                    let span = (*start, *end);
                    self.found.pop_front();
                    if span.1 > self.from {
                        return Some(span);
                    }
                }
                Some(_) | None if self.day.is_some() => self.look(),
                Some(_) | None => return None,
            }
        }
    }
}

/// What any of several rules covers. Sorted, apart from one another.
struct Union<'r> {
    rules: Vec<Peekable<RuleSpans<'r>>>,
}

impl Union<'_> {
    /// The next stretch of any rule.
    fn earliest(&mut self) -> Option<(usize, (i64, i64))> {
        let heads = self.rules.iter_mut().enumerate().filter_map(|(index, rule)| Some((index, *rule.peek()?)));
        heads.min_by_key(|(_, (start, _))| *start)
    }
}

impl Iterator for Union<'_> {
    type Item = (i64, i64);

    fn next(&mut self) -> Option<(i64, i64)> {
        let (index, (from, mut to)) = self.earliest()?;
        self.rules[index].next();
        while let Some((index, (_, end))) = self.earliest().filter(|(_, (start, _))| *start <= to) {
            to = to.max(end);
            self.rules[index].next();
        }
        Some((from, to))
    }
}

/// The stretches that are open, from the first one on that ends after `from` to the last one that starts by `end`. Sorted,
/// apart from one another.
pub(super) fn open_spans(rules: &[WindowRule], from: i64, end: i64) -> impl Iterator<Item = (i64, i64)> {
    let union = |effect| {
        let rules = rules.iter().filter(move |rule| rule.effect == effect);
        Union { rules: rules.map(|rule| RuleSpans::new(rule, from, end).peekable()).collect() }
    };
    let (mut allowed, mut denied) = (union(Effect::Allow), union(Effect::Deny).peekable());
    let mut always = allowed.rules.is_empty().then_some((from, i64::MAX));
    let mut rest: Option<(i64, i64)> = None;
    std::iter::from_fn(move || {
        loop {
            let (start, stop) = rest.take().or_else(|| always.take()).or_else(|| allowed.next())?;
            let start = start.max(from);
            if start > end {
                return None;
            }
            while denied.peek().is_some_and(|(_, until)| *until <= start) {
                denied.next();
            }
            match denied.peek() {
                Some((deny, until)) if *deny <= start => rest = Some((*until, stop)).filter(|_| *until < stop),
                Some((deny, until)) if *deny < stop => {
                    rest = Some((*until, stop)).filter(|_| *until < stop);
                    return Some((start, *deny));
                }
                Some(_) | None => return Some((start, stop)),
            }
        }
    })
}
