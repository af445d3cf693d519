# shellcheck shell=sh disable=SC2034,SC2154 # variables of tuning/tune
# Descriptors of a login as the server's user. A service gets its limit from the unit.

plan_limits() {
    wanted=$(awk '$2 == "hard" && $3 == "nofile" { print $4 }' "$here/limits.d/corecast.conf")
    ceiling=$(squeezed "$root/proc/sys/fs/nr_open") || ceiling=0
    if [ ! -d "$root/etc/security" ]; then
        note "no /etc/security: limits.d has no effect; set LimitNOFILE=$wanted in the unit of a service"
    elif ! at_least "$ceiling" "$wanted"; then
        # With a limit above fs.nr_open the user cannot log in.
        note "fs.nr_open is $ceiling, and a login with $wanted descriptors would fail: apply sysctl first"
        unknown=$((unknown + 1))
    else
        want_file "$here/limits.d/corecast.conf" /etc/security/limits.d/corecast.conf
    fi
}
