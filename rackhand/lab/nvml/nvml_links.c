/* libnvidia-ml.so.1 of a practice host: NVLink, topology. */
#include "nvml.h"

#include <stdio.h>
#include <string.h>

void answer_bus_id(struct pci_info *pci, const struct place *at)
{
    memset(pci, 0, sizeof *pci);
    snprintf(pci->bus_id_legacy, sizeof pci->bus_id_legacy, "%04X:%02X:%02X.0", at->domain & 0xffff, at->bus & 0xff, at->device & 0xff);
    snprintf(pci->bus_id, sizeof pci->bus_id, "%08X:%02X:%02X.0", at->domain, at->bus & 0xff, at->device & 0xff);
    pci->domain = at->domain;
    pci->bus = at->bus;
    pci->device = at->device;
}

static int find_link(nvmlDevice_t handle, unsigned link, struct gpu **gpu)
{
    int refused = find_gpu(handle, gpu);
    if (refused)
        return refused;
    if (!(*gpu)->nvlinks || !(*gpu)->nvlinks_active)
        return NOT_SUPPORTED;
    return link < (*gpu)->nvlinks ? SUCCESS : INVALID_ARGUMENT;
}

int nvmlDeviceGetNvLinkState(nvmlDevice_t handle, unsigned link, unsigned *active)
{
    struct gpu *gpu;
    int refused = find_link(handle, link, &gpu);
    return refused ? refused : answer_number(active, link < gpu->nvlinks_active);
}

int nvmlDeviceGetNvLinkVersion(nvmlDevice_t handle, unsigned link, unsigned *version)
{
    struct gpu *gpu;
    int refused = find_link(handle, link, &gpu);
    return refused ? refused : answer_number(version, gpu->nvlink_version);
}

int nvmlDeviceGetNvLinkRemoteDeviceType(nvmlDevice_t handle, unsigned link, unsigned *type)
{
    struct gpu *gpu;
    int refused = find_link(handle, link, &gpu);
    return refused ? refused : answer_number(type, gpu->peer_count ? 0 : 2); /* GPU, switch */
}

int nvmlDeviceGetNvLinkRemotePciInfo_v2(nvmlDevice_t handle, unsigned link, struct pci_info *pci)
{
    struct gpu *gpu;
    int refused = find_link(handle, link, &gpu);
    if (refused)
        return refused;
    if (link >= gpu->nvlinks_active)
        return NOT_SUPPORTED;
    /* The links of a card go evenly to its peers, in order; where switches have no address, there is no answer. */
    if (gpu->peer_count)
        answer_bus_id(pci, &gpu->peers[link * gpu->peer_count / gpu->nvlinks_active]);
    else if (fleet.switch_count)
        answer_bus_id(pci, &fleet.switches[link % fleet.switch_count]);
    else
        return NOT_SUPPORTED;
    return SUCCESS;
}

int nvmlDeviceGetTopologyCommonAncestor(nvmlDevice_t one, nvmlDevice_t other, unsigned *level)
{
    struct gpu *a, *b;
    int refused = find_gpu(one, &a);
    if (!refused)
        refused = find_gpu(other, &b);
    if (refused)
        return refused;
    if (a == b)
        return NOT_SUPPORTED;
    return answer_number(level, a->numa_node == b->numa_node ? 30 : 50); /* host bridge, system */
}

static int is_linked(const struct gpu *a, const struct gpu *b)
{
    if (!a->nvlinks_active || !b->nvlinks_active)
        return 0;
    for (unsigned i = 0; i < a->peer_count; i++)
        if (a->peers[i].domain == b->domain && a->peers[i].bus == b->bus && a->peers[i].device == b->device)
            return 1;
    return !a->peer_count && !b->peer_count;
}

int nvmlDeviceGetP2PStatus(nvmlDevice_t one, nvmlDevice_t other, unsigned capability, unsigned *status)
{
    struct gpu *a, *b;
    int refused = find_gpu(one, &a);
    if (!refused)
        refused = find_gpu(other, &b);
    if (refused || a == b)
        return refused ? refused : INVALID_ARGUMENT;
    int linked = is_linked(a, b);
    int able = capability == 2 ? linked : a->p2p && b->p2p;
    return answer_number(status, able ? 0 : 5); /* ok, not supported */
}

int nvmlDeviceGetNumaNodeId(nvmlDevice_t handle, unsigned *node)
{
    struct gpu *gpu;
    int refused = find_gpu(handle, &gpu);
    (void)node;
    return refused ? refused : NOT_SUPPORTED; /* as on x86 hosts */
}
