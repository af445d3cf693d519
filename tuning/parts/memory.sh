# shellcheck shell=sh disable=SC2034,SC2154 # variables of tuning/tune
# Huge pages for programs that ask for them. Until the next boot.

plan_memory() {
    pages=/sys/kernel/mm/transparent_hugepage
    if [ ! -d "$root$pages" ]; then
        note "no transparent huge pages in this kernel"
        return 0
    fi
    case $(now_is choice "$pages/enabled") in
        never)
            fine=$((fine + 1))
            say ok "$pages/enabled: never"
            ;;
        *) want choice "$pages/enabled" "$(profile_says thp)" ;;
    esac
    if [ "$(now_is choice "$pages/defrag")" = always ]; then
        want choice "$pages/defrag" madvise
    fi
    if [ "$(profile_says swap)" = off ] && [ "$(wc -l <"$root/proc/swaps" 2>/dev/null || echo 0)" -gt 1 ]; then
        note "swap is on and stays on. For the service alone, set MemorySwapMax=0 in its unit"
    fi
}
