//! The process's own numbers: those of handovers and reloads. Written by the control thread and, during a handover, by homes.

use std::fmt::Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;

#[derive(Default, Debug)]
pub struct ProcessStats {
    /// Publications that went to the other process of a handover, and that came from it.
    pub handover_forwarded: AtomicU64,
    pub handover_received: AtomicU64,
    /// The most bytes that waited for it, and those that did not reach it.
    pub handover_bytes_peak: AtomicU64,
    pub handover_lost_bytes: AtomicU64,
    /// Connections of the admin address, and those that were one too many.
    pub admin_connections: AtomicU64,
    pub admin_refused: AtomicU64,
    /// Settings read again at SIGHUP and taken over, or refused for their faults.
    pub reloads_applied: AtomicU64,
    pub reloads_refused: AtomicU64,
    /// Whether the last one was refused, and when the settings that hold were read.
    pub reload_failed: AtomicBool,
    pub read_at_unix_s: AtomicU64,
}

/// `ProcessStats` as the registry takes it.
#[derive(Debug)]
pub struct Shown(pub Arc<ProcessStats>);

impl Collector for Shown {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), Error> {
        let life = &self.0;
        let counters = [
            (
                "admin_connections_refused",
                "Connections to the admin address past admin.connections_max",
                &life.admin_refused,
            ),
            ("handover_forwarded", "Publications sent to the other process of a handover", &life.handover_forwarded),
            ("handover_received", "Publications of the other process of a handover", &life.handover_received),
            ("handover_lost_bytes", "Bytes that did not reach the other process", &life.handover_lost_bytes),
        ];
        for (name, help, value) in counters {
            let value = value.load(Ordering::Relaxed);
            encoder
                .encode_descriptor(name, help, None, MetricType::Counter)?
                .encode_counter::<NoLabelSet, _, u64>(&value, None)?;
        }
        let (help, here) = ("Connections of the admin address", life.admin_connections.load(Ordering::Relaxed));
        encoder.encode_descriptor("admin_connections", help, None, MetricType::Gauge)?.encode_gauge(&here)?;
        let help = "The most bytes that waited for the other process";
        let peak = life.handover_bytes_peak.load(Ordering::Relaxed);
        encoder.encode_descriptor("handover_bytes_peak", help, None, MetricType::Gauge)?.encode_gauge(&peak)?;
        let help = "Times that SIGHUP had the settings read again";
        let mut family = encoder.encode_descriptor("config_reloads", help, None, MetricType::Counter)?;
        for (result, count) in [("applied", &life.reloads_applied), ("refused", &life.reloads_refused)] {
            let count = count.load(Ordering::Relaxed);
            family.encode_family(&[("result", result)])?.encode_counter::<NoLabelSet, _, u64>(&count, None)?;
        }
        let help = "1 unless the last reload was refused";
        let fine = u64::from(!life.reload_failed.load(Ordering::Relaxed));
        encoder
            .encode_descriptor("config_last_reload_successful", help, None, MetricType::Gauge)?
            .encode_gauge(&fine)?;
        let (name, help) =
            ("config_last_reload_success_timestamp_seconds", "When the settings that hold were read, since 1970");
        let at = life.read_at_unix_s.load(Ordering::Relaxed);
        encoder.encode_descriptor(name, help, None, MetricType::Gauge)?.encode_gauge(&at)?;
        Ok(())
    }
}
