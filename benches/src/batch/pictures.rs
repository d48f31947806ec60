//! Rates over processors, and memory over the length of the archive, as pictures.

use super::results::{MEMORY_LIMIT, Results, gigabytes};
use crate::{
    pool::plot::{Figure, Line, Mark, Panel, Style},
    statistics::Spread,
};

const OURS: Style = Style { colour: "#0969da", dashes: "", mark: Mark::Disc };
const RAW: Style = Style { colour: "#cf222e", dashes: "5 4", mark: Mark::Disc };
const LIMIT: Style = Style { colour: "#57606a", dashes: "2 3", mark: Mark::None };

impl Results {
    /// Each picture with the name of its file.
    pub fn pictures(&self) -> Vec<(&'static str, String)> {
        let mut pictures = Vec::new();
        if !self.scaling.is_empty() {
            pictures.push(("scaling.svg", self.scaling_picture().svg()));
        }
        if !self.memory.is_empty() {
            pictures.push(("memory.svg", self.memory_picture().svg()));
        }
        pictures
    }

    fn subtitle(&self) -> String {
        format!("{}; {}", self.machine, self.date)
    }

    fn scaling_picture(&self) -> Figure {
        let mut deeds: Vec<&str> = self.scaling.iter().map(|scaling| scaling.what.as_str()).collect();
        deeds.dedup();
        let panel = |what: &str| {
            let of: Vec<_> = self.scaling.iter().filter(|scaling| scaling.what == what).collect();
            let points = |rates: fn(&super::results::Scaling) -> &[f64]| {
                let points = of.iter().enumerate().filter(|(_, scaling)| !rates(scaling).is_empty());
                let point = |(place, scaling): (usize, &&super::results::Scaling)| {
                    let Spread { median, min, max } = Spread::of(rates(scaling).iter().copied());
                    (place, median, Some((min, max)))
                };
                points.map(point).collect()
            };
            Panel {
                title: what.to_owned(),
                x_label: "processors".into(),
                categories: of.iter().map(|scaling| scaling.cores.to_string()).collect(),
                y_label: "messages per second".into(),
                logarithmic: false,
                lines: vec![
                    Line { style: OURS, points: points(|scaling| &scaling.rates) },
                    Line { style: RAW, points: points(|scaling| &scaling.raw) },
                ],
                levels: Vec::new(),
            }
        };
        Figure {
            title: "hsmime-batch on one and on two processors".into(),
            subtitle: self.subtitle(),
            panels: deeds.into_iter().map(panel).collect(),
            legend: vec![("hsmime-batch".into(), OURS), ("bare token".into(), RAW)],
        }
    }

    fn memory_picture(&self) -> Figure {
        let panel = |what: &str| {
            let of: Vec<_> = self.memory.iter().filter(|memory| memory.what == what).collect();
            let points = of.iter().enumerate().map(|(place, memory)| (place, memory.cost.peak, None));
            Panel {
                title: what.to_owned(),
                x_label: "mbox".into(),
                categories: of.iter().map(|memory| gigabytes(memory.octets)).collect(),
                y_label: "most resident memory, MiB".into(),
                logarithmic: false,
                lines: vec![Line { style: OURS, points: points.collect() }],
                levels: vec![(MEMORY_LIMIT, LIMIT)],
            }
        };
        Figure {
            title: "Memory of hsmime-batch over the length of the archive".into(),
            subtitle: self.subtitle(),
            panels: self.remembered().into_iter().map(panel).collect(),
            legend: vec![("hsmime-batch".into(), OURS), ("what is allowed".into(), LIMIT)],
        }
    }
}
