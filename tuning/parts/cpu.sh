# shellcheck shell=sh disable=SC2034,SC2154 # variables of tuning/tune
# The shards' cores: frequency, idle states, and isolation from other programs. Until the next boot.

plan_cpu() {
    governor
    idle_states
    [ "$(profile_says isolate)" != yes ] || isolate
}

governor() {
    wanted=$(profile_says governor)
    [ "$wanted" != any ] || return 0
    any=no
    for core in $core_words; do
        path=/sys/devices/system/cpu/cpu$core/cpufreq/scaling_governor
        [ -e "$root$path" ] || continue
        any=yes
        want value "$path" "$wanted"
    done
    [ "$any" = yes ] || note "the firmware or the hypervisor sets the frequency"
}

idle_states() {
    most=$(profile_says cstate_exit_us_max)
    [ "${most:-0}" -gt 0 ] || return 0
    for core in $core_words; do
        for state_folder in "$root/sys/devices/system/cpu/cpu$core/cpuidle"/state*; do
            latency=$(squeezed "$state_folder/latency") || continue
            [ "$latency" -le "$most" ] || want value "${state_folder#"$root"}/disable" 1
        done
    done
}

isolate() {
    if [ -z "$rest" ]; then
        note "no core is left for other programs: list the shards' cores with --cores"
        return 0
    fi
    # shellcheck disable=SC2086 # words
    others=$(list_of $rest)
    # shellcheck disable=SC2086 # words
    others_mask=$(mask_of $rest)
    want mask /sys/devices/virtual/workqueue/cpumask "$others_mask"
    want mask /proc/irq/default_smp_affinity "$others_mask"
    other_interrupts
    groups
    note "permanently, on the kernel command line (not done here): isolcpus=managed_irq,domain,$cores rcu_nocbs=$cores"
}

# The kernel does not move some of them.
other_interrupts() {
    nic=${interface:-$(default_interface)}
    nic_path=/sys/class/net/$nic
    spared=" $(queue_irqs | cut -d: -f1 | tr '\n' ' ')"
    soft=yes
    for folder in "$root"/proc/irq/[0-9]*; do
        case $spared in
            *" ${folder##*/} "*) ;;
            *) [ ! -e "$folder/smp_affinity_list" ] || want list "${folder#"$root"}/smp_affinity_list" "$others" ;;
        esac
    done
    soft=no
}

# Services, sessions and the first process stay on the other cores; the server's own group is left out.
groups() {
    top=/sys/fs/cgroup
    if [ ! -e "$root$top/cgroup.controllers" ]; then
        note "no control groups of version 2: only isolcpus= keeps other programs away"
        return 0
    fi
    controller "$top/cgroup.subtree_control"
    [ ! -d "$root$top/system.slice" ] || controller "$top/system.slice/cgroup.subtree_control"
    for folder in "$root$top/init.scope" "$root$top/user.slice" "$root$top/system.slice"/*.service "$root$top/system.slice"/*.scope; do
        case ${folder##*/} in
            corecast*.service) continue ;;
        esac
        # In a dry run it does not exist before the controller.
        [ ! -d "$folder" ] || [ ! -e "$folder/cpuset.cpus" ] || want list "${folder#"$root"}/cpuset.cpus" "$others"
    done
}

# controller FILE: groups below may have cores of their own.
controller() {
    enabled=$(now_is controller "$1") || return 0
    case " $enabled " in
        *" cpuset "* | *" +cpuset "*) return 0 ;;
    esac
    changes=$((changes + 1))
    case $mode$yes in
        check*) say DIFFERS "$1: has no cpuset" ;;
        applyno) say would "$1: +cpuset" ;;
        applyyes)
            remember controller "$1" cpuset +cpuset
            if error=$(put value "$1" +cpuset); then
                say set "$1: +cpuset"
            else
                refused controller "$1" +cpuset cpuset "$error"
            fi
            ;;
    esac
}
