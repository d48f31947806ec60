//! The results as a picture: how long a look-up takes, by the number of certificates.

use super::{
    contender::Contender,
    results::{Results, Times},
};
use crate::pool::plot::{Figure, Line, Mark, Panel, Style};

impl Results {
    /// The picture, for `lookups.svg`.
    pub fn picture(&self) -> String {
        let panel = |title: &str, value: fn(&Times) -> crate::statistics::Spread| {
            let points = |contender| {
                let sizes = self.sizes.iter().enumerate();
                let points = sizes.filter_map(|(place, size)| {
                    let times = size.times.iter().find(|times| times.contender == contender)?;
                    let spread = value(times);
                    Some((place, spread.median, Some((spread.min, spread.max))))
                });
                points.collect()
            };
            Panel {
                title: title.to_owned(),
                x_label: "certificates".into(),
                categories: self.sizes.iter().map(|size| size.entries.to_string()).collect(),
                y_label: "microseconds".into(),
                logarithmic: false,
                lines: Contender::ALL
                    .into_iter()
                    .map(|contender| Line { style: style(contender), points: points(contender) })
                    .collect(),
                levels: Vec::new(),
            }
        };
        let figure = Figure {
            title: "A look-up by address".into(),
            subtitle: format!("{}; {}", self.machine, self.date),
            panels: vec![
                panel("mean", |times| times.mean),
                panel("99 in 100 take no longer", |times| times.p99),
            ],
            legend: Contender::ALL
                .into_iter()
                .map(|contender| (contender.title().to_owned(), style(contender)))
                .collect(),
        };
        figure.svg()
    }
}

fn style(contender: Contender) -> Style {
    let (colour, dashes) = match contender {
        Contender::Read => ("#0969da", "5 4"),
        Contender::Lookup => ("#0969da", ""),
        Contender::Lmdb => ("#57606a", ""),
        Contender::LmdbOneTransaction => ("#57606a", "2 3"),
        Contender::Sqlite => ("#cf222e", ""),
    };
    Style { colour, dashes, mark: Mark::Disc }
}
