"""Options that no probe feels, by owner, each with the reason. What decides numbers does not belong into `NEVER`."""

from __future__ import annotations

from collections.abc import Mapping

Listed = Mapping[str, Mapping[str, str]]
"""By reason: owners, each with the names of its fields."""

NEVER: Listed = {
    "beside any other kl_estimator than the one that fits it is refused, so that it never decides alone": {
        "algorithm grpo": "kl_in_reward",
        "algorithm nlpo": "kl_in_reward kl_estimator",
        "algorithm ppo": "kl_in_reward",
    },
    "a revision is of a hub, which no test reaches": {
        "ModelOptions": "model_revision",
        "BackboneOptions": "model_revision",
    },
    "it becomes max_steps before a run begins: tests/unit/train/test_epochs.py counts them": {
        "TrainOptions": "num_train_epochs",
    },
    "it is of a push to a hub, which a fake one answers in tests/integration/test_sharing.py": {
        "TrainOptions": "push_to_hub hub_model_id hub_strategy hub_private_repo hub_revision hub_token",
    },
    "it lets code of a hub run, and no model in the tests brings any": {
        "ModelOptions": "trust_remote_code",
        "BackboneOptions": "trust_remote_code",
    },
    "the tiny template reads no variable; tests/unit/test_chat.py hands them to one that does": {
        "ModelOptions": "chat_template_kwargs",
    },
    "it divides logits for memory, and no number follows from the pieces": {
        "TrainOptions": "logits_chunk_mb",
        "engine hf": "logits_chunk_mb",
    },
    "it bounds the processes that grade: seconds, and no score": {
        "RolloutOptions": "reward_workers",
    },
    "an alarm needs four audited steps: tests/unit/train/test_gold_reward.py gives them": {
        "AuditOptions": "window stop",
    },
    "a test machine has one device, the CPU": {
        "engine hf": "device",
        "reward process_model": "device",
        "reward reward_model": "device",
        "reward salmon": "device",
        "reward success_model": "device",
        "reward token_model": "device",
        "reward value_rank": "device",
        "reward vlm_rm": "device",
    },
    "a name of the hub, which no test reaches": {
        "data jsonl": "dataset_name dataset_config split",
        "data hub": "path config split prompt_column answer_column id_column instruction",
        "source offline": "dataset_name dataset_config split",
        "source returns": "dataset_name dataset_config split",
    },
    "columns beside rows are refused there: a row behind its return is another row": {
        "source returns": "columns",
    },
    "it has one word alone": {
        "data livecodebench": "split",
    },
    "the folder's file is the one that a probe has written: tests/unit/data/test_swe_bench.py names another": {
        "data swe_bench": "path",
    },
    "it spaces requests in time, and no reply follows from it: tests/unit/rewards/judge/test_failures.py": {
        "reward judge": "requests_per_minute",
        "reward behaviour_judge": "requests_per_minute",
        "simulator chat_model": "requests_per_minute",
    },
    "it is the interpreter in a container, which tests have where there is one: tests/integration/test_containers.py": {
        "env swe": "container_python",
        "reward swe_tests": "container_python",
    },
    "TextWorld is an extra that the test environment does not have: tests/unit/envs/test_textworld.py": {
        "env textworld": "folder commands",
    },
    "reasoning-gym is an extra that the test environment does not have": {
        "data reasoning_gym": "tasks count seed config instruction",
        "reward reasoning_gym": "tags_required partial",
    },
    "vLLM takes half a minute to start: tests/unit/engines/vllm and tests/e2e hand them over": {
        "engine vllm": (
            "gpu_memory_utilization enforce_eager max_num_seqs enable_prefix_caching "
            "enable_sleep_mode cpu_kvcache_space block_size return_kept_ids min_tokens_to_keep "
            "mask_update_steps critic critic_beta critic_top_k engine_kwargs"
        ),
    },
    "a server takes half a minute to start: tests/unit/engines/server and tests/e2e hand them over": {
        "engine server": (
            "servers urls api_key served_model_name sync_dir timeout_s in_flight_updates retries "
            "start_timeout_s log_dir enforce_eager gpu_memory_utilization tensor_parallel_size "
            "devices enable_sleep_mode cpu_kvcache_space omp_threads critic critic_beta "
            "critic_top_k server_args"
        ),
    },
    "a browser plays it, which is no quick test: tests/integration/test_browser.py": {
        "env miniwob": (
            "observation actions history instructions max_steps max_elements max_text shaping shaping_gamma pages "
            "pictures"
        ),
        "env shop": (
            "observation actions history instructions max_steps max_elements max_text shaping shaping_gamma pictures"
        ),
    },
}
"""Nothing comes of them that a quick test on a CPU could see."""

LATER: Listed = {
    "it needs a game of two agents with an engine each, as tests/integration/test_own_parameters.py plays": {
        "OpponentOptions": "model engine temperature learns learning_rate",
        "RolloutOptions": "opponents",
    },
}
"""Their owners have tests of their own; a probe is still to be written."""
