"""What XenAPI's records hold: the fields of each class that the model serves, with their types and defaults.

Clients read whole records and fail on a missing field, so a record here has every field that a xapi of 26.1 has,
whether or not the model gives it a life of its own. Source: xapi doc/data/xenapi.json, which is made from its datamodel
(ocaml/idl/datamodel*.ml); the names of columns: datamodel_vm.ml, datamodel_host.ml, datamodel.ml (namespaces) there.

Types: ``text`` (enumerations too), ``bool``, ``int``, ``real``, ``time``, ``ref``, ``set`` and ``map``. A default that
is not the type's own stands behind the name: ``power_state=Halted``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from poolwarden_lab.statedb import NULL_REF

Kind = Literal["text", "bool", "int", "real", "time", "ref", "set", "map"]

OF_KIND: dict[Kind, str] = {
    "text": "",
    "bool": "false",
    "int": "0",
    "real": "0",
    "time": "19700101T00:00:00Z",
    "ref": NULL_REF,
    "set": "()",
    "map": "()",
}
"""The column text that an absent value of a type stands for."""


@dataclass(frozen=True, slots=True)
class Field:
    kind: Kind
    default: str  # as a column's text


def _fields(**words: str) -> dict[str, Field]:
    """Fields by name, from one text of names per kind."""
    found = {}
    for kind, own in OF_KIND.items():
        for word in words.get(kind, "").split():
            name, _, default = word.partition("=")
            found[name] = Field(kind, default or own)
    return found


CLASSES: dict[str, dict[str, Field]] = {
    "pool": _fields(
        text="""
            uuid name_label name_description wlb_url wlb_username vswitch_controller ha_cluster_stack
            uefi_certificates custom_uefi_certificates client_certificate_auth_name repository_proxy_url
            repository_proxy_username telemetry_frequency=weekly update_sync_frequency=weekly
        """,
        bool="""
            ha_enabled ha_allow_overcommit ha_overcommitted wlb_enabled wlb_verify_cert redo_log_enabled
            policy_no_vendor_device live_patching_disabled igmp_snooping_enabled is_psr_pending
            tls_verification_enabled client_certificate_auth_enabled migration_compression
            coordinator_bias=true update_sync_enabled
        """,
        int="""
            ha_host_failures_to_tolerate ha_plan_exists_for local_auth_max_threads=8
            ext_auth_max_threads=1 update_sync_day
        """,
        time="telemetry_next_collection last_update_sync",
        ref="master default_SR suspend_image_SR crash_dump_SR redo_log_vdi repository_proxy_password telemetry_uuid",
        set="ha_statefiles tags metadata_VDIs allowed_operations repositories",
        map="""
            other_config ha_configuration blobs gui_config health_check_config restrictions
            current_operations guest_agent_config cpu_info
        """,
    ),
    "host": _fields(
        text="""
            uuid name_label name_description API_version_vendor sched_policy hostname address
            external_auth_type external_auth_service_name edition power_on_mode display=enabled iscsi_iqn
            uefi_certificates latest_synced_updates_applied=unknown numa_affinity_policy=default_policy
            last_update_hash
        """,
        bool="enabled ssl_legacy=true multipathing tls_verification_enabled https_only",
        int="memory_overhead API_version_major API_version_minor",
        time="last_software_update",
        ref="suspend_image_sr crash_dump_sr metrics local_cache_sr control_domain",
        set="""
            allowed_operations capabilities supported_bootloaders resident_VMs PIFs crashdumps patches
            updates PBDs host_CPUs ha_statefiles ha_network_peers tags PCIs PGPUs PUSBs
            virtual_hardware_platform_versions updates_requiring_reboot features certificates editions
            pending_guidances pending_guidances_recommended pending_guidances_full
        """,
        map="""
            current_operations API_version_vendor_implementation software_version other_config
            cpu_configuration logging cpu_info license_params blobs external_auth_configuration
            license_server bios_strings power_on_config chipset_info guest_VCPUs_params
        """,
    ),
    "host_metrics": _fields(
        text="uuid",
        bool="live",
        int="memory_total memory_free",
        time="last_updated",
        map="other_config",
    ),
    "host_cpu": _fields(
        text="uuid vendor modelname stepping flags features",
        int="number speed family model",
        real="utilisation",
        ref="host",
        map="other_config",
    ),
    "VM": _fields(
        text="""
            uuid name_label name_description power_state=Halted actions_after_softreboot=soft_reboot
            actions_after_shutdown=destroy actions_after_reboot=restart
            actions_after_crash=restart PV_bootloader PV_kernel PV_ramdisk PV_args
            PV_bootloader_args PV_legacy_args HVM_boot_policy PCI_bus domarch last_booted_record
            recommendations ha_restart_priority transportable_snapshot_id snapshot_metadata
            generation_id=0:0 reference_label domain_type=unspecified
        """,
        bool="""
            is_a_template is_default_template is_control_domain ha_always_run is_a_snapshot
            is_vmss_snapshot has_vendor_device requires_reboot
        """,
        int="""
            user_version memory_overhead memory_target memory_static_max memory_dynamic_max
            memory_dynamic_min memory_static_min VCPUs_max VCPUs_at_startup domid start_delay
            shutdown_delay order version hardware_platform_version
        """,
        real="HVM_shadow_multiplier=1",
        time="snapshot_time",
        ref="""
            suspend_VDI resident_on scheduled_to_be_resident_on affinity metrics guest_metrics snapshot_of
            parent protection_policy snapshot_schedule appliance suspend_SR
        """,
        set="""
            allowed_operations consoles VIFs VBDs VUSBs crash_dumps VTPMs snapshots tags children VGPUs
            attached_PCIs pending_guidances pending_guidances_recommended pending_guidances_full
        """,
        map="""
            current_operations VCPUs_params HVM_boot_params platform other_config last_boot_CPU_flags
            xenstore_data blobs blocked_operations snapshot_info bios_strings NVRAM
        """,
    ),
    "VM_metrics": _fields(
        text="uuid current_domain_type=unspecified",
        bool="hvm nested_virt nomigrate",
        int="memory_actual VCPUs_number",
        time="start_time install_time last_updated",
        set="state",
        map="VCPUs_CPU VCPUs_params VCPUs_flags other_config",
    ),
    "VM_guest_metrics": _fields(
        text="uuid can_use_hotplug_vbd=unspecified can_use_hotplug_vif=unspecified",
        bool="PV_drivers_up_to_date live PV_drivers_detected",
        time="last_updated",
        map="os_version PV_drivers_version networks other other_config",
    ),
    "VBD": _fields(
        text="uuid device userdevice mode=RW type=Disk status_detail qos_algorithm_type",
        bool="bootable unpluggable=true storage_lock empty currently_attached",
        int="status_code",
        ref="VM VDI",
        set="allowed_operations qos_supported_algorithms",
        map="current_operations other_config runtime_properties qos_algorithm_params",
    ),
    "VIF": _fields(
        text="""
            uuid device MAC status_detail qos_algorithm_type locking_mode=network_default
            ipv4_configuration_mode=None ipv4_gateway ipv6_configuration_mode=None ipv6_gateway
        """,
        bool="currently_attached MAC_autogenerated",
        int="MTU status_code",
        ref="network VM",
        set="allowed_operations qos_supported_algorithms ipv4_allowed ipv6_allowed ipv4_addresses ipv6_addresses",
        map="current_operations other_config runtime_properties qos_algorithm_params",
    ),
    "VDI": _fields(
        text="uuid name_label name_description type=user location on_boot=persist",
        bool="""
            sharable read_only storage_lock managed missing is_a_snapshot allow_caching metadata_latest
            is_tools_iso cbt_enabled
        """,
        int="virtual_size physical_utilisation",
        time="snapshot_time",
        ref="SR parent snapshot_of metadata_of_pool",
        set="allowed_operations VBDs crash_dumps snapshots tags",
        map="current_operations other_config xenstore_data sm_config",
    ),
    "SR": _fields(
        text="uuid name_label name_description type content_type",
        bool="shared local_cache_enabled clustered is_tools_sr",
        int="virtual_allocation physical_utilisation physical_size",
        ref="introduced_by",
        set="allowed_operations VDIs PBDs tags",
        map="current_operations other_config sm_config blobs",
    ),
    "SM": _fields(
        text="uuid name_label name_description type vendor copyright version required_api_version driver_filename",
        set="capabilities required_cluster_stack",
        map="configuration features other_config",
    ),
    "PBD": _fields(
        text="uuid",
        bool="currently_attached",
        ref="host SR",
        map="device_config other_config",
    ),
    "network": _fields(
        text="uuid name_label name_description bridge default_locking_mode=unlocked",
        bool="managed=true",
        int="MTU=1500",
        set="allowed_operations VIFs PIFs tags purpose",
        map="current_operations other_config blobs assigned_ips",
    ),
    "PIF": _fields(
        text="""
            uuid device MAC ip_configuration_mode=None IP netmask gateway DNS ipv6_configuration_mode=None
            ipv6_gateway primary_address_type=IPv4 igmp_snooping_status=unknown
        """,
        bool="physical currently_attached=true management disallow_unplug managed=true",
        int="MTU VLAN",
        ref="network host metrics bond_slave_of VLAN_master_of PCI",
        set="""
            bond_master_of VLAN_slave_of tunnel_access_PIF_of tunnel_transport_PIF_of IPv6 capabilities
            sriov_physical_PIF_of sriov_logical_PIF_of
        """,
        map="other_config properties",
    ),
    "PIF_metrics": _fields(
        text="uuid vendor_id vendor_name device_id device_name pci_bus_path",
        bool="carrier duplex",
        int="speed",
        time="last_updated",
        map="other_config",
    ),
    "Bond": _fields(
        text="uuid mode=balance-slb",
        bool="auto_update_mac=true",
        int="links_up",
        ref="master primary_slave",
        set="slaves",
        map="other_config properties",
    ),
    "VLAN": _fields(
        text="uuid",
        int="tag=-1",
        ref="tagged_PIF untagged_PIF",
        map="other_config",
    ),
    "console": _fields(
        text="uuid protocol=rfb location",
        ref="VM",
        map="other_config",
    ),
    "task": _fields(
        text="uuid name_label name_description status=pending type result backtrace=()",
        real="progress",
        time="created finished",
        ref="resident_on subtask_of",
        set="allowed_operations error_info subtasks",
        map="current_operations other_config",
    ),
    "session": _fields(
        text="uuid auth_user_sid auth_user_name originator",
        bool="pool is_local_superuser client_certificate",
        time="last_active validation_time",
        ref="this_host this_user subject parent",
        set="rbac_permissions tasks",
        map="other_config",
    ),
    # Empty in a pool without external authentication, schedules, tunnels and updates; clients list them at their login.
    "subject": _fields(text="uuid subject_identifier", set="roles", map="other_config"),
    "VM_appliance": _fields(
        text="uuid name_label name_description",
        set="allowed_operations VMs",
        map="current_operations",
    ),
    "VMSS": _fields(
        text="uuid name_label name_description type frequency",
        bool="enabled=true",
        int="retained_snapshots=7",
        time="last_run_time",
        set="VMs",
        map="schedule",
    ),
    "tunnel": _fields(
        text="uuid protocol=gre",
        ref="access_PIF transport_PIF",
        map="status other_config",
    ),
    "pool_patch": _fields(
        text="uuid name_label name_description version",
        bool="pool_applied",
        int="size",
        ref="pool_update",
        set="host_patches after_apply_guidance",
        map="other_config",
    ),
    "host_patch": _fields(
        text="uuid name_label name_description version",
        bool="applied",
        int="size",
        time="timestamp_applied",
        ref="host pool_patch",
        map="other_config",
    ),
    "pool_update": _fields(
        text="uuid name_label name_description version key",
        bool="enforce_homogeneity",
        int="installation_size",
        ref="vdi",
        set="after_apply_guidance hosts",
        map="other_config",
    ),
    "host_crashdump": _fields(text="uuid", int="size", time="timestamp", ref="host", map="other_config"),
    "crashdump": _fields(text="uuid", ref="VM VDI", map="other_config"),
}

OTHER_ENDS = {
    ("host", "resident_VMs"): ("VM", "resident_on"),
    ("host", "PBDs"): ("PBD", "host"),
    ("host", "PIFs"): ("PIF", "host"),
    ("host", "host_CPUs"): ("host_cpu", "host"),
    ("SR", "PBDs"): ("PBD", "SR"),
    ("SR", "VDIs"): ("VDI", "SR"),
    ("VM", "VBDs"): ("VBD", "VM"),
    ("VM", "VIFs"): ("VIF", "VM"),
    ("VM", "consoles"): ("console", "VM"),
    ("VDI", "VBDs"): ("VBD", "VDI"),
    ("network", "PIFs"): ("PIF", "network"),
    ("network", "VIFs"): ("VIF", "network"),
}
"""Fields that are the other end of a relation, (class, field): (class, field) that is kept. Never stored."""

_NAMESPACES = {
    "pool": "",
    "VM": "name|memory|VCPUs|PV|HVM|actions",
    "VM_metrics": "memory|VCPUs",
    "host": "name|memory|API_version",
    "host_metrics": "memory",
    "VBD": "qos|status",
    "VIF": "qos|status",
}
_OF_MOST = "name"


def column_of(name: str, field: str) -> str:
    """The column of a class's field: a namespace is joined by two underscores, and the pool's names have none."""
    spaces = _NAMESPACES.get(name, _OF_MOST)
    if name in ("PIF", "PBD", "console", "host_cpu", "session") or not spaces:
        return field
    return re.sub(rf"^({spaces})_(?=.)", r"\1__", field)
