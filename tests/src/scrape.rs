//! What Prometheus reads of a server: the text format as it came, and its numbers by their names.

use reqwest::Client;

/// One scrape.
#[derive(Debug)]
pub struct Scrape {
    pub text: String,
}

impl Scrape {
    /// Reads the metrics at a URL.
    pub async fn read(http: &Client, url: &str) -> Self {
        let answer = http.get(url).send().await.unwrap();
        assert_eq!(answer.status(), 200);
        let kind = answer.headers()["content-type"].to_str().unwrap().to_owned();
        assert!(kind.starts_with("text/plain; version=0.0.4"), "{kind}");
        Self { text: answer.text().await.unwrap() }
    }

    /// The number of a series such as `name{label="value"}`; `None` if there is no such series.
    #[must_use]
    pub fn find(&self, series: &str) -> Option<f64> {
        let value = |line: &str| line.strip_prefix(series)?.strip_prefix(' ')?.parse().ok();
        self.text.lines().find_map(value)
    }

    /// The number of a series that must be there.
    #[must_use]
    pub fn number(&self, series: &str) -> f64 {
        self.find(series).unwrap_or_else(|| panic!("no {series} in\n{}", self.text))
    }

    /// Fails unless each series has its number.
    pub fn shows(&self, wanted: &[(&str, f64)]) {
        for (series, number) in wanted {
            let found = self.number(series);
            assert!((found - number).abs() < 1e-6, "{series} is {found}, not {number}");
        }
    }

    /// The names of all metrics, each once, in the order in which they come.
    #[must_use]
    pub fn names(&self) -> Vec<&str> {
        let types = self.text.lines().filter_map(|line| line.strip_prefix("# TYPE "));
        types.filter_map(|line| line.split(' ').next()).collect()
    }
}
