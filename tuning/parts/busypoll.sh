# shellcheck shell=sh disable=SC2034,SC2154 # variables of tuning/tune
# Polling the card before sleeping. Until the next boot; 0 in the profile leaves the value.

plan_busypoll() {
    time=$(profile_says busy_poll_us)
    if [ "${time:-0}" -gt 0 ]; then
        want value /proc/sys/net/core/busy_poll "$time"
    else
        note "the profile $profile has no busy poll: net.core.busy_poll is left as it is"
    fi
    card=${interface:-$(default_interface)}
    for knob in napi_defer_hard_irqs gro_flush_timeout; do
        key=$knob
        [ "$knob" != gro_flush_timeout ] || key=gro_flush_timeout_ns
        number=$(profile_says "$key")
        [ "${number:-0}" -gt 0 ] || continue
        want value "/sys/class/net/$card/$knob" "$number"
    done
}
