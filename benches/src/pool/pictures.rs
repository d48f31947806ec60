//! The results as pictures: rates and latencies by callers.

use super::{
    contender::{Contender, Shape},
    operation::Operation,
    plot::{Figure, Line, Mark, Panel, Style, number},
    results::{Limits, Rate, Results},
    site::{LATENCY, Token},
};

const RAW: Style = Style { colour: "#57606a", dashes: "", mark: Mark::Disc };
const POOL: Style = Style { colour: "#0969da", dashes: "", mark: Mark::Disc };
const KEYD: Style = Style { colour: "#d4620a", dashes: "", mark: Mark::Disc };
const OPENSSL: Style = Style { colour: "#1a7f37", dashes: "2 4", mark: Mark::None };
const BEST: Style = Style { colour: "#57606a", dashes: "7 4", mark: Mark::None };
const IDEAL: Style = Style { colour: "#8250df", dashes: "2 4", mark: Mark::None };

impl Results {
    /// Pictures with the names of their files.
    pub fn pictures(&self) -> Vec<(String, String)> {
        let mut all = Vec::new();
        for token in Token::ALL {
            let measured: Vec<Operation> = Operation::ALL
                .into_iter()
                .filter(|operation| self.best(*operation, token, Contender::Pool).is_some())
                .collect();
            if !measured.is_empty() {
                all.push((format!("rates-{}.svg", token.name()), self.rate_figure(token, &measured).svg()));
                let latencies = self.latency_figure(token, &measured).svg();
                all.push((format!("latencies-{}.svg", token.name()), latencies));
            }
        }
        if !self.lanes.is_empty() {
            all.push(("lanes.svg".to_owned(), self.lane_figure().svg()));
        }
        all
    }

    /// Interactive requests beside nothing and beside bulk work.
    fn lane_figure(&self) -> Figure {
        let mut panels: Vec<Panel> = Vec::new();
        for one in &self.lanes {
            let style = if one.contender == Contender::Keyd { lone(KEYD) } else { lone(POOL) };
            let [p50_idle, p50_busy] = one.p50;
            let values = [p50_idle, p50_busy, one.idle, one.busy].into_iter().enumerate();
            let points = values.map(|(at, value)| (at, value.median, Some((value.min, value.max)))).collect();
            let limit =
                (one.idle.median + 2.0 * one.service, Style { mark: Mark::None, dashes: "2 4", ..style });
            let title = format!("{}, {} token", one.operation.title(), one.token.name());
            if let Some(panel) = panels.iter_mut().find(|panel| panel.title == title) {
                panel.lines.push(Line { style, points });
                panel.levels.push(limit);
                continue;
            }
            panels.push(Panel {
                title,
                x_label: format!("beside nothing, and beside {} bulk requests", one.backlog),
                categories: ["p50 idle", "p50 busy", "p99 idle", "p99 busy"].map(str::to_owned).into(),
                y_label: "milliseconds".to_owned(),
                logarithmic: false,
                lines: vec![Line { style, points }],
                levels: vec![limit],
            });
        }
        let mut legend = vec![("pool".to_owned(), lone(POOL))];
        if self.lanes.iter().any(|one| one.contender == Contender::Keyd) {
            legend.push(("pool through keyd".to_owned(), lone(KEYD)));
        }
        legend.push((
            "limit: p99 idle and two raw operations".to_owned(),
            Style { mark: Mark::None, dashes: "2 4", ..POOL },
        ));
        Figure {
            title: "Interactive requests beside an archive".to_owned(),
            subtitle: self.subtitle(),
            panels,
            legend,
        }
    }

    fn rate_figure(&self, token: Token, operations: &[Operation]) -> Figure {
        let panels = operations.iter().map(|operation| self.rate_panel(*operation, token)).collect();
        let mut legend = vec![
            ("raw loop".to_owned(), RAW),
            ("its best".to_owned(), BEST),
            ("pool".to_owned(), POOL),
            ("continuations".to_owned(), lone(POOL)),
        ];
        if self.rates.iter().any(|rate| rate.contender == Contender::Keyd) {
            legend.push(("pool through keyd".to_owned(), KEYD));
        }
        match token {
            Token::Plain => legend.push(("openssl speed, two processes".to_owned(), OPENSSL)),
            Token::Emulated => legend.push((ideal_words(), IDEAL)),
        }
        Figure {
            title: format!("Operations per second: {}", token.title()),
            subtitle: self.subtitle(),
            panels,
            legend,
        }
    }

    fn rate_panel(&self, operation: Operation, token: Token) -> Panel {
        let lines = self.lines(operation, token, true, |rate| {
            let rate = rate.rate();
            (rate.median, Some((rate.min, rate.max)))
        });
        let mut levels = Vec::new();
        if let Some(best) = self.best(operation, token, Contender::Raw) {
            levels.push((best.rate().median, BEST));
        }
        let is_limit =
            |processes| move |one: &&Limits| one.processes == processes && one.key == operation.key().name;
        if token == Token::Emulated {
            levels.push((ideal(), IDEAL));
        } else if let Some(limit) = self.limits.iter().find(is_limit(2)) {
            levels.push((limit.rate.median, OPENSSL));
        }
        self.panel(operation, token, "per second", false, lines, levels)
    }

    fn latency_figure(&self, token: Token, operations: &[Operation]) -> Figure {
        let panels = operations.iter().map(|operation| self.latency_panel(*operation, token)).collect();
        let mut legend = vec![
            ("raw loop p50".to_owned(), RAW),
            ("p99".to_owned(), dashed(RAW)),
            ("pool p50".to_owned(), POOL),
            ("p99".to_owned(), dashed(POOL)),
        ];
        if self.rates.iter().any(|rate| rate.contender == Contender::Keyd) {
            legend.push(("pool through keyd p50".to_owned(), KEYD));
            legend.push(("p99".to_owned(), dashed(KEYD)));
        }
        Figure {
            title: format!("Time per operation: {}", token.title()),
            subtitle: self.subtitle(),
            panels,
            legend,
        }
    }

    fn latency_panel(&self, operation: Operation, token: Token) -> Panel {
        let mut lines = self.lines(operation, token, false, |rate| (rate.p50().median, None));
        for line in self.lines(operation, token, false, |rate| (rate.p99().median, None)) {
            lines.push(Line { style: dashed(line.style), ..line });
        }
        self.panel(operation, token, "milliseconds", true, lines, Vec::new())
    }

    fn panel(
        &self,
        operation: Operation,
        token: Token,
        y_label: &str,
        logarithmic: bool,
        lines: Vec<Line>,
        levels: Vec<(f64, Style)>,
    ) -> Panel {
        Panel {
            title: operation.title().to_owned(),
            x_label: "callers at a time".to_owned(),
            categories: self.widths(operation, token).iter().map(ToString::to_string).collect(),
            y_label: y_label.to_owned(),
            logarithmic,
            lines,
            levels,
        }
    }

    /// All numbers of callers, fewest first.
    fn widths(&self, operation: Operation, token: Token) -> Vec<usize> {
        let all = Contender::ALL.iter().flat_map(|one| self.of(operation, token, *one));
        let mut widths: Vec<usize> = all.map(|rate| rate.shape.width()).collect();
        widths.sort_unstable();
        widths.dedup();
        widths
    }

    fn lines(
        &self,
        operation: Operation,
        token: Token,
        with_continuations: bool,
        value: impl Fn(&Rate) -> (f64, Option<(f64, f64)>),
    ) -> Vec<Line> {
        let widths = self.widths(operation, token);
        let mut lines = Vec::new();
        for (contender, style) in [(Contender::Raw, RAW), (Contender::Pool, POOL), (Contender::Keyd, KEYD)] {
            let (mut blocking, mut continuing) = (Vec::new(), Vec::new());
            for rate in self.of(operation, token, contender) {
                let Some(at) = widths.iter().position(|width| *width == rate.shape.width()) else { continue };
                let (median, range) = value(rate);
                match rate.shape {
                    Shape::Callers(_) => blocking.push((at, median, range)),
                    Shape::Window(_) => continuing.push((at, median, range)),
                }
            }
            if !blocking.is_empty() {
                lines.push(Line { style, points: blocking });
            }
            if with_continuations && !continuing.is_empty() {
                lines.push(Line { style: lone(style), points: continuing });
            }
        }
        lines
    }

    fn subtitle(&self) -> String {
        format!("{}; {}; {} rounds; {}", self.machine, self.versions.join(", "), self.rounds, self.date)
    }
}

#[expect(clippy::cast_precision_loss, reason = "16 sessions")]
fn ideal() -> f64 {
    Token::Emulated.sessions() as f64 / LATENCY.as_secs_f64()
}

fn ideal_words() -> String {
    let (sessions, latency) = (Token::Emulated.sessions(), LATENCY.as_millis());
    format!("{sessions} sessions / {latency} ms = {}", number(ideal()))
}

fn lone(style: Style) -> Style {
    Style { mark: Mark::Diamond, ..style }
}

fn dashed(style: Style) -> Style {
    Style { dashes: "5 4", ..style }
}
